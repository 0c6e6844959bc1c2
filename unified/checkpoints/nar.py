"""NAR: a transformer that predicts the codes beside each code, an anti-diagonal at a time (arXiv 2503.10696).

Its sequence is a condition (a class, or the vectors of a caption) and all codes of a map or of a video's
frames, each at its own position. Head 0 predicts to the right; behind it come blocks and a head for the codes
below, and for videos again for those in the next frame. Steps, read-outs and feed are those of the order
`nar`. With one head it is LlamaGen's transformer (`llamagen`), which predicts the next code: the order
`raster`. Source: ThisisBillhe/NAR (MIT). Not here: dropping conditions in training (`next_scale.drop_labels`
does that for classes). Tests: tests/unified/checkpoints/test_nar.py.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unified.backbone.decoder import run_layers
from unified.backbone.layer_pass import Pass
from unified.checkpoints.adaln import CodeHead
from unified.checkpoints.nar_blocks import Block, CaptionEmbedding, ClassEmbedding, NARConfig, rotary_table
from unified.layout.attention import PADDING, Index, Seen, attends
from unified.orders import Plan, plan_for
from unified.orders.read_outs import BEFORE, NOTHING
from unified.orders.shapes import area
from unified.stream.segments import Kind

IMAGE_HEADS = (("norm", "output"), ("medusa_norm", "medusa_output"))
VIDEO_HEADS = (("norm_R", "output_R"), ("norm_D", "output_D"), ("norm_B", "output_B"))


class NARTransformer(nn.Module):
    """Likelihood and hidden states; `nar_generation.Prompted` writes with it. Parameter names are the
    published ones."""

    def __init__(self, config: NARConfig) -> None:
        super().__init__()
        self.config = config
        self.names = VIDEO_HEADS if config.video else IMAGE_HEADS[: 1 + len(config.more)]
        self.cls_embedding = CaptionEmbedding(config) if config.caption_width else ClassEmbedding(config)
        self.tok_embeddings = nn.Embedding(config.codes, config.width)
        if config.video:
            self.abs_pe = nn.Parameter(torch.zeros(1, 1 + area(config.shapes), config.width))
        self.layers = nn.ModuleList(Block(config, layer) for layer in range(config.layers))
        for norm, output in self.names:
            self.add_module(norm, nn.RMSNorm(config.width, eps=config.norm_eps))
            self.add_module(output, CodeHead(config.width, config.codes, bias=False))

    @property
    def order(self) -> str:
        """The name of its plan."""
        if self.config.video:
            return "nar(heads=3)"
        return "nar" if self.config.more else "raster(fed='own')"

    @property
    def heads(self) -> list[CodeHead]:
        """Those that codes are read out by: right, below, next frame."""
        return [self.get_submodule(output) for _, output in self.names]  # type: ignore[misc]

    @property
    def groups(self) -> list[LayerGroup]:
        """The blocks before each head."""
        found, after = [], 0
        for (norm, _), count in zip(self.names, (self.config.depth, *self.config.more), strict=True):
            found.append(LayerGroup(self, after, count, self.get_submodule(norm)))
            after += count
        return found

    def hidden(self, embeds: Tensor, run: Pass) -> list[Tensor]:
        """Embeddings [R, n, D] under a pass -> for each head, what it reads [R, n, D]."""
        return run_layers(self.groups, embeds, run)

    # Inputs -------------------------------------------------------------------------------------------------

    def condition(self, given: Tensor) -> Tensor:
        """Labels [R, n] or vectors of captions [R, n, C] -> embeddings [R, n, D]."""
        embeds = self._dropped(self.cls_embedding(given))
        return embeds + self.abs_pe[:, :1] if self.config.video else embeds

    def placed(self, values: Tensor, slots: Tensor) -> Tensor:
        """Embeddings of codes [R, n, D] at the slots [n] where they stand."""
        embeds = self._dropped(values)
        return embeds + self.abs_pe[:, 1 + slots.to(embeds.device)] if self.config.video else embeds

    def _dropped(self, embeds: Tensor) -> Tensor:
        return F.dropout(embeds, self.config.drops.token, self.training)

    # Likelihood ---------------------------------------------------------------------------------------------

    def forward(self, given: Tensor, codes: Tensor, text_mask: Tensor | None = None) -> Tensor:
        """Teacher forcing: logits [B, N, V] of every code given the codes of earlier diagonals.

        given: labels [B], or vectors [B, T, C] of captions, of which `text_mask` [B, T] leaves some out;
        codes [B, N], row by row, frame by frame."""
        return self.mixed(self.raw_logits(given, codes, text_mask))

    def raw_logits(self, given: Tensor, codes: Tensor, text_mask: Tensor | None = None) -> list[Tensor]:
        """Of each head, [B, T + N, V] at its own positions."""
        plan = self.plan()
        self._check(given, codes, plan)
        condition = self.condition(given if self.config.caption_width else given[:, None])
        embeds = torch.cat([condition, self.placed(self.tok_embeddings(codes), plan.slots)], dim=1)
        index, positions = self.sequence(text_mask)
        index, positions = index.to(embeds.device), positions.to(embeds.device)
        run = Pass(index, positions, seen=Seen(attends(index, index)[:, None]))
        states = self.hidden(embeds, run)
        return [head.logits(x).squeeze(-2) for head, x in zip(self.heads, states, strict=True)]

    def plan(self) -> Plan:
        return plan_for(self.order, self.config.shapes)

    def sequence(self, text_mask: Tensor | None = None) -> tuple[Index, Tensor]:
        """Index [1 or B, T + N] and positions [3, 1, T + N] of the condition and all codes. What `text_mask`
        [B, T] leaves out of a caption is seen by itself alone."""
        plan, length = self.plan(), self.config.condition_length
        label = torch.cat([torch.arange(length), length + plan.labels])[None]
        kind = torch.tensor([Kind.TEXT] * length + [Kind.WRITE] * plan.length)[None]
        sample, positions = torch.zeros_like(label), torch.zeros(3, *label.shape)
        positions[1:, 0, length:] = plan.coordinates.T
        if text_mask is not None:
            sample = sample.repeat(len(text_mask), 1)
            alone = PADDING - torch.arange(length)
            sample[:, :length] = torch.where(text_mask.cpu() > 0, 0, alone)
        segment = (kind == Kind.WRITE).long()
        index = Index(sample, *(field.expand_as(sample) for field in (segment, kind, label)))
        return index, positions

    def mixed(self, raw: list[Tensor]) -> Tensor:
        """Logits of each head at its own positions [B, T + N, V] -> of each code, their mean over its
        read-outs [B, N, V]."""
        read_outs, length = self.plan().read_outs, self.config.condition_length
        none = (read_outs.source == BEFORE) | (read_outs.source == NOTHING)
        places = length + read_outs.source.masked_fill(none, -1)
        logits = torch.stack(raw)
        parts = [
            logits[head, :, place] * share[:, None, None]
            for head, place, share in zip(
                read_outs.head.T, places.T, read_outs.share.T.to(logits.device), strict=True
            )
        ]
        return sum(parts[1:], parts[0]).transpose(0, 1)

    def _check(self, given: Tensor, codes: Tensor, plan: Plan) -> None:
        width, length = self.config.caption_width, self.config.condition_length
        want = (len(codes), length, width) if width else (len(codes),)
        if tuple(given.shape) != want or codes.shape[1:] != (plan.length,):
            raise ValueError(
                f"this model needs a condition {want} and codes [{len(codes)}, {plan.length}], "
                f"got {tuple(given.shape)} and {tuple(codes.shape)}"
            )


class LayerGroup:
    """Some of a model's blocks, after so many others, and the norm behind them, for the loop over layers."""

    def __init__(self, model: NARTransformer, after: int, count: int, norm: nn.Module) -> None:
        self.model, self.after, self.count, self.norm = model, after, count, norm

    def __len__(self) -> int:
        return self.count

    def begin(self, hidden: Tensor, run: Pass) -> Tensor | None:
        """The rotary table; None for a model of learned positions."""
        config = self.model.config
        return None if config.video else rotary_table(config, run.index, run.positions)

    def layer(self, number: int, hidden: Tensor, shared: Tensor | None, run: Pass) -> Tensor:
        out: Tensor = self.model.layers[number](hidden, shared, run)
        return out

    def end(self, hidden: Tensor, run: Pass) -> Tensor:
        normed: Tensor = self.norm(hidden)
        return normed


def training_loss(logits: Tensor, codes: Tensor, valid: Tensor | None = None) -> Tensor:
    """Mean cross entropy of codes [B, N] under mixed logits [B, N, V], of samples marked in `valid` [B] alone
    (none: 0)."""
    per_code = F.cross_entropy(logits.transpose(1, 2), codes, reduction="none")  # [B, N]
    if valid is None:
        return per_code.mean()
    weight = valid[:, None].to(per_code).expand_as(per_code)
    return (per_code * weight).sum() / weight.sum().clamp(min=1)
