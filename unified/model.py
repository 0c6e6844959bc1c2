"""The model: embeddings of the stream, any `transformers` decoder, and the likelihood of every token.

`UnifiedModel.forward` follows the one target rule: text and action ids are predicted from the position before
them, WRITE codes at their own position, whose input the plan derives from earlier steps. One pass gives exact
likelihoods.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForCausalLM, PreTrainedModel
from transformers.utils import ModelOutput

from unified.backbone.attention import BACKENDS, of_batch, of_session
from unified.backbone.decoder import LibraryLayers, run_layers
from unified.backbone.fused import FusedLayers, fusible
from unified.backbone.layer_pass import Pass
from unified.cache.kv_cache import KVCache
from unified.config import UnifiedConfig
from unified.extras.grid import GridEmbedding
from unified.extras.slots import OwnState, SlotEmbedding, Writer, fed, nothing_fed
from unified.extras.transition import Transition
from unified.heads import HEADS, log_prob
from unified.layout.attention import BLOCK, Index
from unified.layout.layout import IGNORED, Layout
from unified.layout.patch_merging import Fold
from unified.orders import Plan
from unified.stream.segments import Kind
from unified.stream.vocabulary import Vocabulary


@dataclass
class UnifiedOutput(ModelOutput):
    """`loss`: mean negative log-likelihood of the targets. `logits` [B, T, V]: the distribution *of* each
    predicted token (not of the next one), float32, -inf where the target rule allows no such id; None unless
    asked for or if the codes are more than a table can hold. `log_probs` [B, T]: of each target, 0 elsewhere.
    `segment_sums` [B, S] and `step_sums` [B, S, K]: their sums by segment of the row and, for WRITE segments,
    by step. All float32."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    log_probs: Tensor | None = None
    segment_sums: Tensor | None = None
    step_sums: Tensor | None = None
    hidden_states: Tensor | None = None


class UnifiedModel(PreTrainedModel):
    """One decoder over text, special, visual and action ids."""

    config_class = UnifiedConfig
    base_model_prefix = "backbone"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flex_attn = True

    def __init__(self, config: UnifiedConfig) -> None:
        super().__init__(config)
        words, width = config.words, config.hidden_size
        self.vocabulary: Vocabulary = words
        kind = config._attn_implementation
        self.attention = kind if kind in BACKENDS else "sdpa"
        self.attend = of_session(self.attention)
        backbone = config.backbone_config()
        backbone._attn_implementation = "unified"  # see `backbone.decoder`
        self.backbone = AutoModel.from_config(backbone)
        self.library = LibraryLayers(self.backbone)
        self.grid = GridEmbedding(width) if config.grid or not self.library.spatial else None
        self.slots = SlotEmbedding(
            width, words.max_side, config.references, config.copies, words.merge > 0, config.transition
        )
        self.fold = Fold(width) if words.merge else None
        self.text_head = nn.Linear(width, words.table_size, bias=False)
        self.head = HEADS[config.head](width, words.visual)
        self.fused: FusedLayers | None = None
        self.post_init()

    def fuse(self) -> UnifiedModel:
        """Sessions run the layers in fewer operations, until the model is moved, loaded or trained. Only the
        default decoder can; others stay as they are."""
        if fusible(self.backbone):
            self.fused = FusedLayers(self.backbone)
        return self

    def _apply(self, *arguments: Any, **named: Any) -> UnifiedModel:
        self.fused = None
        return super()._apply(*arguments, **named)

    def load_state_dict(self, *arguments: Any, **named: Any) -> Any:
        self.fused = None
        return super().load_state_dict(*arguments, **named)

    def train(self, mode: bool = True) -> UnifiedModel:
        self.fused = None if mode else self.fused
        return super().train(mode)

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, SlotEmbedding):
            nn.init.normal_(module.start, std=self.config.initializer_range)
            if module.reference is not None:
                nn.init.eye_(module.reference.weight)
                module.reference.weight.data.mul_(0.5)  # codes stand for themselves
            if module.copying is not None:
                nn.init.zeros_(module.copying.weight)
        elif isinstance(module, OwnState):
            nn.init.zeros_(module.out.weight)
        elif isinstance(module, Transition):
            module.start(self.config.initializer_range)
        elif isinstance(module, GridEmbedding):
            module.initialise(self.config.initializer_range)
        elif isinstance(module, Fold):
            module.start(self.config.initializer_range)
        else:
            super()._init_weights(module)

    def get_input_embeddings(self) -> nn.Module:
        return self.backbone.get_input_embeddings()

    def get_output_embeddings(self) -> nn.Module:
        return self.text_head

    # Likelihood ---------------------------------------------------------------------------------------------

    def forward(
        self,
        input_ids: Tensor,
        labels: Tensor | None = None,
        layout: Layout | None = None,
        attention_mask: Tensor | None = None,
        return_logits: bool = True,
        **_: object,
    ) -> UnifiedOutput:
        """Likelihood of rows of ids [B, T]. `labels` [B, T]: the ids, IGNORED (-100) where a token is no
        target; without them every token that the target rule allows is scored and no loss is returned.
        `layout`: computed from the ids if not given. `attention_mask` (0 = padding) is accepted for trainers'
        sake; <|pad|> ids are what counts."""
        layout = (layout or Layout.of(input_ids, self.vocabulary)).to(input_ids.device)
        slots = self._slots(input_ids, layout)
        hidden = self.decode(self._embed(input_ids, layout, slots), layout)
        hidden = self._owned(hidden, slots)
        wanted = layout.predicted if labels is None else layout.predicted & (labels != IGNORED)
        log_probs = self._log_probs(hidden, input_ids, layout, wanted)
        count = wanted.sum()
        loss = None if labels is None else -log_probs.sum() / count.clamp(min=1)
        segments, steps = _sums(log_probs, layout)
        logits = self._logits(hidden, layout) if return_logits and self._has_table() else None
        return UnifiedOutput(loss, logits, log_probs, segments, steps, hidden)

    def embed(self, ids: Tensor, layout: Layout) -> Tensor:
        """Input embeddings [B, T, D], one for each id: ids as themselves, WRITE slots as what their plan
        feeds them."""
        return self._embed(ids, layout, self._slots(ids, layout))

    def _slots(self, ids: Tensor, layout: Layout) -> tuple[Tensor, ...]:
        """Embeddings of all ids as codes and as others, both [B, T, D], and of all M slots of a batch: rows
        [M], positions [M], inputs [M, D] and the image before at their places [M, D], see `fed`."""
        codes = (ids - self.vocabulary.visual_start).clamp(0, self.vocabulary.visual - 1)
        values = self.head.embed(codes)
        table = self.get_input_embeddings()(self.vocabulary.table_rows(ids))
        shown = self.slots.shown(values, table, layout.writes)
        parts = [fed(values, *pair) for pair in zip(layout.writes, shown, strict=True)]
        parts = parts or [nothing_fed(values, self.slots.nothing_shown(values))]
        rows, places, *given = (torch.cat(part) for part in zip(*parts, strict=True))
        inputs = self.slots(*given)  # one call, whatever is drawn: sharded parameters count calls
        return values, table, rows, places, inputs, given[-1]

    def _embed(self, ids: Tensor, layout: Layout, slots: tuple[Tensor, ...]) -> Tensor:
        values, table, rows, places, inputs, _ = slots
        embeds = torch.where(self.vocabulary.is_visual(ids)[..., None], values, table)
        return embeds.index_put((rows, places), inputs.to(embeds.dtype))

    def _owned(self, hidden: Tensor, slots: tuple[Tensor, ...]) -> Tensor:
        """Hidden states [B, T, D], those of slots made their own."""
        if self.slots.own is None and self.slots.copying is None:
            return hidden
        _, _, rows, places, inputs, before = slots
        states = self.slots.states(hidden[rows, places], inputs, before)
        return hidden.index_put((rows, places), states.to(hidden.dtype))

    def decode(self, embeds: Tensor, layout: Layout) -> Tensor:
        """Hidden states [B, T, D] of a whole batch under the attention rule."""
        index, positions = layout.folded()
        if self.fold is None or layout.folding is None:
            return self._attended(embeds, index, positions)
        hidden = self._attended(self.fold.fold(embeds, layout.folding), index, positions)
        return self.fold.unfold(hidden, layout.folding)

    def _attended(self, embeds: Tensor, index: Index, positions: Tensor) -> Tensor:
        length, device = embeds.shape[1], embeds.device.type
        if self.attention == "by_block":
            embeds, index, positions = _filled(embeds, index, positions)
        low = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if low else embeds.dtype
        attend, seen = of_batch(self.attention, index, dtype)
        hidden = self.hidden(embeds, Pass(index, positions, seen=seen, attend=attend))
        return hidden[:, :length]

    def hidden(self, embeds: Tensor, run: Pass) -> Tensor:
        """The backbone: embeddings [R, n, D] under a pass -> hidden states [R, n, D]."""
        if self.grid is not None:
            embeds = embeds + self.grid(run.positions)
        fused = self.fused if run.append is not None and not torch.is_grad_enabled() else None
        return run_layers(fused or self.library, embeds, run)

    def _log_probs(self, hidden: Tensor, ids: Tensor, layout: Layout, wanted: Tensor) -> Tensor:
        """[B, T] float32, computed only where wanted. Each sort of token is normalised over its own sort:
        what stands inside an image is a code, what stands outside is not."""
        log_probs = torch.zeros(ids.shape, dtype=torch.float32, device=ids.device)
        visual = self.vocabulary.is_visual(ids)
        for chosen, is_code in ((wanted & visual, True), (wanted & ~visual, False)):
            rows, places = chosen.nonzero(as_tuple=True)
            states = hidden[rows, layout.source[rows, places]]  # [N, D]
            tokens = ids[rows, places]
            if is_code:
                symbols = self.head.to_symbols(tokens - self.vocabulary.visual_start)
                scores = log_prob(self.head.logits(states), symbols)
            else:
                scores = log_prob(
                    self.text_logits(states)[:, None], self.vocabulary.table_rows(tokens)[:, None]
                )
            log_probs = log_probs.index_put((rows, places), scores)
        return log_probs

    def text_logits(self, hidden: Tensor) -> Tensor:
        """[..., D] -> [..., rows of the non-visual table], float32."""
        return self.text_head(hidden).float()

    def _has_table(self) -> bool:
        return self.head.symbols == 1

    def _logits(self, hidden: Tensor, layout: Layout) -> Tensor:
        states = hidden.gather(1, layout.source[..., None].expand_as(hidden))
        text, codes = self.text_logits(states), self.head.logits(states).squeeze(-2)
        is_code = ((layout.step >= 0) & layout.predicted)[..., None]
        text = text.masked_fill(is_code, float("-inf"))
        codes = codes.masked_fill(~is_code, float("-inf"))
        border = self.vocabulary.visual_start
        return torch.cat([text[..., :border], codes, text[..., border:]], dim=-1)

    # What a Session needs -----------------------------------------------------------------------------------

    def steer(self, ids: Tensor) -> None:
        """The stream alone steers this model."""

    def read(self, ids: Tensor, layout: Layout) -> Tensor:
        """Embeddings [B, P, D] of the positions of ids [B, n]."""
        embeds = self.embed(ids, layout)
        merged = self.fold is not None and layout.folding is not None
        return self.fold.fold(embeds, layout.folding) if merged else embeds  # type: ignore[union-attr,arg-type]

    def null_stream(self, ids: Sequence[int]) -> list[int]:
        """The stream of the null branch of guidance: the same turns and images, without what the user wrote
        and what the assistant says of what it draws."""
        row, drop, role = [], False, None
        for token in ids:
            if token in (self.vocabulary.system, self.vocabulary.user, self.vocabulary.assistant):
                role = token
            drop = role in (self.vocabulary.user, self.vocabulary.assistant) and (
                token < self.vocabulary.text or token == self.vocabulary.part
            )
            if not drop:
                row.append(token)
        return row

    def new_cache(self, rows: int = 1, capacity: int = 256, *, static: bool = False) -> KVCache:
        return KVCache(len(self.library), rows, capacity, static=static)

    def write(self, plan: Plan, rows: int, condition: object = None) -> Writer:
        """The state of one image being written in `rows` rows."""
        return Writer(self, plan, rows)


def _filled(embeds: Tensor, index: Index, positions: Tensor) -> tuple[Tensor, Index, Tensor]:
    """Rows of positions filled up to a multiple of BLOCK, or of half the power of two below their length:
    what is compiled serves few lengths, and folded rows have many."""
    length = embeds.shape[1]
    index = index.filled(max(BLOCK, 2 ** (length.bit_length() - 2)))
    missing, pad = index.sample.shape[1] - length, nn.functional.pad
    return pad(embeds, (0, 0, 0, missing)), index, pad(positions, (0, missing))


def _sums(log_probs: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    """Sums of [B, T] by segment [B, S] and by segment and step [B, S, K]."""
    rows, _ = log_probs.shape
    segment, step = layout.index.segment, layout.step
    counts = int(segment.max()) + 1, int(step.max()) + 1
    by_segment = log_probs.new_zeros(rows, counts[0]).scatter_add(1, segment, log_probs)
    written = log_probs.masked_fill(step < 0, 0.0)
    flat = segment * max(counts[1], 1) + step.clamp(min=0)
    by_step = log_probs.new_zeros(rows, counts[0] * max(counts[1], 1)).scatter_add(1, flat, written)
    return by_segment, by_step.view(rows, counts[0], -1)


AutoModel.register(UnifiedConfig, UnifiedModel)
AutoModelForCausalLM.register(UnifiedConfig, UnifiedModel)

__all__ = ["Kind", "UnifiedConfig", "UnifiedModel", "UnifiedOutput", "Writer"]
