"""The model: embeddings of the stream, any `transformers` decoder, and the likelihood of every token.

`UnifiedModel.forward` follows the one target rule: text and action ids are predicted from the position before
them, WRITE codes at their own position, whose input the plan derives from earlier steps. One pass gives exact
likelihoods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForCausalLM, PreTrainedModel
from transformers.utils import ModelOutput

from unified.backbone.attention import BACKENDS, of_batch, of_session
from unified.backbone.decoder import LibraryLayers, run_layers
from unified.backbone.fused import FusedLayers, fusible
from unified.backbone.layer_pass import Depth, LayerPart, Pass, runs_of
from unified.backbone.read_outs import ReadOut
from unified.cache.kv_cache import KVCache
from unified.config import UnifiedConfig
from unified.extras.grid import GridEmbedding
from unified.extras.slots import OwnState, SlotEmbedding, Writer, fed, nothing_fed
from unified.extras.transition import Transition
from unified.heads import HEADS
from unified.layout.attention import BLOCK, Index
from unified.layout.layout import IGNORED, Layout
from unified.layout.patch_merging import Fold
from unified.likelihood import sums, token_log_probs, token_logits
from unified.orders import Plan
from unified.readers import make_readers, read_values
from unified.stream.segments import Kind
from unified.stream.vocabulary import Vocabulary

LOGITS = 2**28  # numbers: a GiB in float32
IGNORED_ARGUMENTS = frozenset(
    {
        "attention_mask",
        "position_ids",
        "use_cache",
        "return_dict",
        "output_attentions",
        "output_hidden_states",
    }
    | {"num_items_in_batch"}
)


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
        self.read_outs = self._more_read_outs(config.read_outs)
        self.readers = make_readers(config.readers or {}, width, self.head.embed)
        self.fused: FusedLayers | None = None
        self.post_init()

    def _more_read_outs(self, count: int) -> nn.ModuleList:
        """Heads beside the first, each behind one block of its own."""
        width, codes = self.config.hidden_size, self.vocabulary.visual
        heads = [HEADS[self.config.head](width, codes, embeds=False) for _ in range(count - 1)]
        first = len(self.library)
        return nn.ModuleList(
            ReadOut(self.backbone, first + number, 1, head) for number, head in enumerate(heads)
        )

    @property
    def heads(self) -> list[Any]:
        """The heads that slots are read out by."""
        return [self.head, *(read_out.head for read_out in self.read_outs)]

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
        values: Mapping[str, Tensor] | None = None,
        depth: Depth | None = None,
        parts: Sequence[LayerPart] = (),
        return_logits: bool | None = None,
        **others: object,
    ) -> UnifiedOutput:
        """Likelihood of rows of ids [B, T]. `labels` [B, T]: the ids, IGNORED (-100) where a token is no
        target; without them every token that the target rule allows is scored and no loss is returned.
        `layout`: computed from the ids if not given. `values`: what stands at placeholders, by name
        (`readers`). `depth`: which layers the steps of images run; `parts`: what is plugged in around layers.
        `return_logits`: None for where they take at most `LOGITS` numbers. What trainers hand to every model
        (`IGNORED_ARGUMENTS`; <|pad|> ids are what counts as padding) is accepted; TypeError for anything
        else."""
        unknown = sorted(set(others) - IGNORED_ARGUMENTS)
        if unknown:
            raise TypeError(f"UnifiedModel.forward takes no argument {unknown[0]!r}")
        layout = (layout or Layout.of(input_ids, self.vocabulary)).to(input_ids.device)
        self._check_heads(layout)
        slots = self._slots(input_ids, layout)
        states = self.decode(self._embed(input_ids, layout, slots, values), layout, depth, parts)
        states = [self._owned(hidden, slots) for hidden in states]
        wanted = layout.predicted if labels is None else layout.predicted & (labels != IGNORED)
        log_probs = token_log_probs(self, states, input_ids, layout, wanted)
        count = wanted.sum()
        loss = None if labels is None else -log_probs.sum() / count.clamp(min=1)
        segments, steps = sums(log_probs, layout)
        fits = input_ids.numel() * self.vocabulary.size <= LOGITS if return_logits is None else return_logits
        logits = token_logits(self, states, layout) if fits and self.head.symbols == 1 else None
        return UnifiedOutput(loss, logits, log_probs, segments, steps, states[0])

    def _check_heads(self, layout: Layout) -> None:
        for group in layout.writes:
            self._check_plan(group.plan)

    def _check_plan(self, plan: Plan) -> None:
        if plan.heads > len(self.heads):
            raise ValueError(
                f"the order {plan.order} reads codes out by {plan.heads} heads, this model has "
                f"{len(self.heads)}: set read_outs={plan.heads} in its configuration"
            )

    def embed(self, ids: Tensor, layout: Layout, values: Mapping[str, Tensor] | None = None) -> Tensor:
        """Input embeddings [B, T, D], one for each id: ids as themselves, WRITE slots as what their plan
        feeds them, placeholders as what the readers make of `values`."""
        return self._embed(ids, layout, self._slots(ids, layout), values)

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

    def _embed(
        self,
        ids: Tensor,
        layout: Layout,
        slots: tuple[Tensor, ...],
        given: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        values, table, rows, places, inputs, _ = slots
        embeds = torch.where(self.vocabulary.is_visual(ids)[..., None], values, table)
        embeds = embeds.index_put((rows, places), inputs.to(embeds.dtype))
        if given or len(self.readers):
            embeds = read_values(self.readers, embeds, ids, self.vocabulary, given)  # type: ignore[arg-type]
        return embeds

    def _owned(self, hidden: Tensor, slots: tuple[Tensor, ...]) -> Tensor:
        """Hidden states [B, T, D], those of slots made their own."""
        if self.slots.own is None and self.slots.copying is None:
            return hidden
        _, _, rows, places, inputs, before = slots
        states = self.slots.states(hidden[rows, places], inputs, before)
        return hidden.index_put((rows, places), states.to(hidden.dtype))

    def decode(
        self, embeds: Tensor, layout: Layout, depth: Depth | None = None, parts: Sequence[LayerPart] = ()
    ) -> list[Tensor]:
        """For each head, hidden states [B, T, D] of a whole batch under the attention rule."""
        index, positions = layout.folded()
        runs = {} if depth is None else runs_of(depth, layout, self.layer_count)
        if self.fold is None or layout.folding is None:
            return self._attended(embeds, index, positions, runs, parts)
        folding = layout.folding
        runs = {number: where.gather(1, folding.kept) for number, where in runs.items()}
        states = self._attended(self.fold.fold(embeds, folding), index, positions, runs, parts)
        return [self.fold.unfold(hidden, folding) for hidden in states]

    def _attended(
        self,
        embeds: Tensor,
        index: Index,
        positions: Tensor,
        runs: dict[int, Tensor],
        parts: Sequence[LayerPart],
    ) -> list[Tensor]:
        length, device = embeds.shape[1], embeds.device.type
        dense = bool(runs) or any(part.adds_keys for part in parts)
        kind = "sdpa" if dense else self.attention
        if kind == "by_block":
            embeds, index, positions = _filled(embeds, index, positions)
        low = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if low else embeds.dtype
        attend, seen = of_batch(kind, index, dtype)
        run = Pass(index, positions, seen=seen, attend=attend, runs=runs, parts=parts)
        states = self.hidden(embeds, run)
        return [hidden[:, :length] for hidden in states]

    @property
    def layer_count(self) -> int:
        """Layers of the backbone: those that a depth policy is asked for."""
        return len(self.library)

    @property
    def layers_in_all(self) -> int:
        """Layers of the backbone and of the blocks behind it."""
        return len(self.library) + len(self.read_outs)

    def hidden(self, embeds: Tensor, run: Pass) -> list[Tensor]:
        """The backbone: embeddings [R, n, D] under a pass -> for each head, hidden states [R, n, D]."""
        if self.grid is not None:
            embeds = embeds + self.grid(run.positions)
        fused = self.fused if run.append is not None and not torch.is_grad_enabled() else None
        first = len(self.library)
        more = [x.layers(self.backbone, first + n) for n, x in enumerate(self.read_outs)]
        return run_layers([fused or self.library, *more] if more else [fused or self.library], embeds, run)

    def text_logits(self, hidden: Tensor) -> Tensor:
        """[..., D] -> [..., rows of the non-visual table], float32."""
        return self.text_head(hidden).float()

    # What a Session needs -----------------------------------------------------------------------------------

    def steer(self, ids: Tensor, values: Mapping[str, Tensor] | None = None) -> None:
        """The stream alone steers this model."""

    def read(self, ids: Tensor, layout: Layout, values: Mapping[str, Tensor] | None = None) -> Tensor:
        """Embeddings [B, P, D] of the positions of ids [B, n], with `values` at placeholders."""
        embeds = self.embed(ids, layout, values)
        merged = self.fold is not None and layout.folding is not None
        return self.fold.fold(embeds, layout.folding) if merged else embeds  # type: ignore[union-attr,arg-type]

    def null_stream(self, ids: Sequence[int]) -> list[int]:
        """The stream of the null branch of guidance: the same turns and images, without what the user wrote
        and what the assistant says of what it draws."""
        row, drop, role, image = [], False, None, False
        for token in ids:
            image = (image or token in (self.vocabulary.read, self.vocabulary.write)) and (
                token != self.vocabulary.close
            )
            if token in (self.vocabulary.system, self.vocabulary.user, self.vocabulary.assistant):
                role = token
            drop = role in (self.vocabulary.user, self.vocabulary.assistant) and (
                self.vocabulary.is_text(token) or token == self.vocabulary.part
            )
            if image or not drop:
                row.append(token)
        return row

    def new_cache(self, rows: int = 1, capacity: int = 256, *, static: bool = False) -> KVCache:
        return KVCache(self.layers_in_all, rows, capacity, static=static, device=self.device)

    def write(self, plan: Plan, rows: int, condition: object = None) -> Writer:
        """The state of one image being written in `rows` rows."""
        self._check_plan(plan)
        return Writer(self, plan, rows)


def _filled(embeds: Tensor, index: Index, positions: Tensor) -> tuple[Tensor, Index, Tensor]:
    """Rows of positions filled up to a multiple of BLOCK, or of half the power of two below their length:
    what is compiled serves few lengths, and folded rows have many."""
    length = embeds.shape[1]
    index = index.filled(max(BLOCK, 2 ** (length.bit_length() - 2)))
    missing, pad = index.sample.shape[1] - length, nn.functional.pad
    return pad(embeds, (0, 0, 0, missing)), index, pad(positions, (0, missing))


AutoModel.register(UnifiedConfig, UnifiedModel)
AutoModelForCausalLM.register(UnifiedConfig, UnifiedModel)

__all__ = ["Kind", "UnifiedConfig", "UnifiedModel", "UnifiedOutput", "Writer"]
