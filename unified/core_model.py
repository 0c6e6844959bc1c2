"""The model: embeddings of the stream, a decoder, and the likelihood of every token.

`CoreModel.forward` follows the one target rule: text and action ids are predicted from the position before
them, WRITE codes at their own position, whose input the plan derives from earlier steps. One pass gives exact
likelihoods. `unified.model.UnifiedModel` is the same as a `PreTrainedModel` of `transformers`; nothing here
imports that class, which takes longer than importing torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from unified.backbone.attention import backend_of, of_session
from unified.backbone.batch import run_batch
from unified.backbone.build import build_decoder
from unified.backbone.decoder import LibraryLayers, refuse_alone, run_layers
from unified.backbone.extended_tables import extend_tables
from unified.backbone.fused import FusedLayers, fusible
from unified.backbone.initialise import initialise_fresh
from unified.backbone.layer_pass import Depth, LayerPart, Pass
from unified.backbone.mixture import MixtureLayers
from unified.backbone.parts.deep_stack import split_deeper, with_deeper
from unified.backbone.read_outs import ReadOut, make_read_outs
from unified.bound import BoundNoise
from unified.cache.kv_cache import KVCache
from unified.config import UnifiedConfig
from unified.extras import make_extras
from unified.extras.patch_merging import merging_of
from unified.extras.slots import SlotEmbedding, WrittenSlots, written_slots
from unified.extras.writer import Writer
from unified.heads import build_head
from unified.layout.layout import Layout
from unified.likelihood import UnifiedOutput, check_arguments, check_labels, likelihoods
from unified.model_summary import summary
from unified.orders import Plan
from unified.readers import make_readers, read_values
from unified.stream.base_words import FEATURES, PLACES
from unified.stream.migration import weight_name
from unified.stream.null_stream import null_stream
from unified.stream.segments import Kind
from unified.stream.vocabulary import Vocabulary


class CoreModel(nn.Module):
    """One decoder over text, special, visual and action ids."""

    generation_config: Any = None

    def __init__(self, config: UnifiedConfig) -> None:
        self._begin(config)
        words, width = config.words, config.hidden_size
        self.vocabulary: Vocabulary = words
        self.attention = backend_of(config._attn_implementation)
        self.attend = of_session(self.attention)
        self.backbone: Any = build_decoder(config.backbone_config(), pretrained=bool(config.base))
        refuse_alone(self.backbone)
        mixed = getattr(self.backbone, "expert", None) is not None
        self.library: Any = MixtureLayers(self.backbone) if mixed else LibraryLayers(self.backbone)
        self.extras = make_extras(config.extras or {}, width)
        self.slots = SlotEmbedding(width, words.max_side)
        self.merging = merging_of(words.merge, width)
        self.width = width
        if config.base:
            sizes, tied = (words.embedding_size, words.table_size), bool(config.base["tied"])
            self.text_head: Any = extend_tables(self.backbone, *sizes, tied=tied)
        else:
            self.text_head = nn.Linear(width, words.table_size, bias=False)
        told = (config.head, width, words.visual, config.head_options)
        self.head = build_head(*told)
        more = [build_head(*told, embeds=False) for _ in range(config.read_outs - 1)]
        self.read_outs = make_read_outs(self.backbone, len(self.library), more)
        self.readers = make_readers(config.readers or {}, width, self.head.embed)
        self.fused: FusedLayers | None = None
        self._finish()

    def _begin(self, config: UnifiedConfig) -> None:
        nn.Module.__init__(self)
        self.config = config
        self.name_or_path = config.name_or_path

    def _finish(self) -> None:
        """First weights of what was not made by a part that begins on its own."""
        initialise_fresh(self, self.config.initializer_range)

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    def extra_repr(self) -> str:
        """A line before the modules."""
        words = self.vocabulary
        return f"{summary(self)}; {words.text} text, {words.visual} visual, {words.action} action ids"

    @property
    def heads(self) -> list[Any]:
        """The heads that slots are read out by."""
        return [self.head, *(read_out.head for read_out in self.read_outs)]

    def fuse(self) -> Any:
        """Sessions run the layers in fewer operations, until the model is moved, loaded or trained. Only the
        default decoder can; others stay as they are, and a pretrained one, whose logits must not change."""
        if fusible(self.backbone) and not self.config.base:
            self.fused = FusedLayers(self.backbone)
        return self

    def _apply(self, *arguments: Any, **named: Any) -> Any:
        self.fused = None
        return super()._apply(*arguments, **named)

    def train(self, mode: bool = True) -> Any:
        self.fused = None if mode else self.fused
        return super().train(mode)

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
        num_items_in_batch: Tensor | int | None = None,
        bound_noise: BoundNoise | None = None,
        **others: object,
    ) -> UnifiedOutput:
        """Likelihood of rows of ids [B, T]. `labels` [B, T]: the ids, IGNORED (-100) where a token is no
        target (`Layout.labels`: all but what the assistant says); without them every token that the target
        rule allows is scored and no loss is returned. ValueError for labels that are other ids: nothing is to
        be shifted. `num_items_in_batch`: what the loss is divided by in place of the number of targets here,
        which transformers' `Trainer` counts over all micro-batches and processes of a step.
        `layout`: computed from the ids if not given. `values`: what stands at placeholders, by name
        (`readers`). `depth`: which layers the steps of images run; `parts`: what is plugged in around layers.
        `bound_noise`: times and noise for a head without likelihood, whose `log_probs` are minus its
        denoising loss; None: new ones in training, else `bound.fixed`.
        `return_logits`: None for where they take at most `LOGITS` numbers. What trainers hand to every model
        (`likelihood.IGNORED_ARGUMENTS`; <|pad|> ids are what counts as padding) is accepted; TypeError for
        anything else that is not None."""
        check_arguments(others)
        if layout is None and labels is not None:
            check_labels(input_ids, labels)
        layout = (layout or Layout.of(input_ids, self.vocabulary, values=values)).to(input_ids.device)
        states = self.states(input_ids, layout, values, depth, parts)
        told = (return_logits, num_items_in_batch, bound_noise)
        return likelihoods(self, states, input_ids, labels, layout, *told)

    def states(
        self,
        ids: Tensor,
        layout: Layout,
        values: Mapping[str, Tensor] | None = None,
        depth: Depth | None = None,
        parts: Sequence[LayerPart] = (),
    ) -> list[Tensor]:
        """For each head, the hidden states [B, T, D] that ids [B, T] are predicted from, in one
        teacher-forced pass; the arguments as of `forward`."""
        for group in layout.writes:
            self._check_plan(group.plan)
        embeds, slots = self._embed(ids, layout, values)
        return [self._slot_states(hidden, slots) for hidden in self.decode(embeds, layout, depth, parts)]

    def _check_plan(self, plan: Plan) -> None:
        if plan.heads > len(self.heads):
            raise ValueError(
                f"the order {plan.order} reads codes out by {plan.heads} heads, this model has "
                f"{len(self.heads)}: set read_outs={plan.heads} in its configuration"
            )

    def embed(self, ids: Tensor, layout: Layout, values: Mapping[str, Tensor] | None = None) -> Tensor:
        """Input embeddings [B, T, D], one for each id: ids as themselves, WRITE slots as what their plan
        feeds them, placeholders as what the readers make of `values`."""
        return self._embed(ids, layout, values)[0]

    def embed_ids(self, ids: Tensor) -> Tensor:
        """Embeddings [..., D] of ids [...] that are no visual codes."""
        embedded: Tensor = self.get_input_embeddings()(self.vocabulary.table_rows(ids))
        return embedded

    def _embed(
        self, ids: Tensor, layout: Layout, given: Mapping[str, Tensor] | None
    ) -> tuple[Tensor, WrittenSlots]:
        """`embed`, and the written slots."""
        words = self.vocabulary
        codes = self.head.embed((ids - words.visual_start).clamp(0, words.visual - 1))
        others = self.embed_ids(ids)
        slots = written_slots(self.slots, self.extras, codes, others, layout.writes)
        embeds = torch.where(words.is_visual(ids)[..., None], codes, others)
        embeds = embeds.index_put((slots.rows, slots.places), slots.inputs.to(embeds.dtype))
        if given or len(self.readers):
            read = {name: vectors for name, vectors in (given or {}).items() if name != PLACES}
            embeds = read_values(self.readers, embeds, ids, words, read)  # type: ignore[arg-type]
            embeds = with_deeper(embeds, ids == words.image, read.get(FEATURES))
        return embeds, slots

    def _slot_states(self, hidden: Tensor, slots: WrittenSlots) -> Tensor:
        """Hidden states [B, T, D], those of written slots as the extras make them."""
        before = hidden[slots.rows, slots.places]
        states = self.extras.slot_states(before, slots.inputs, slots.reference)
        if states is before:  # no extra has changed them
            return hidden
        return hidden.index_put((slots.rows, slots.places), states.to(hidden.dtype))

    def decode(
        self, embeds: Tensor, layout: Layout, depth: Depth | None = None, parts: Sequence[LayerPart] = ()
    ) -> list[Tensor]:
        """For each head, hidden states [B, T, D] of a whole batch under the attention rule."""
        inputs = self.merging.merge(embeds, layout.merging)
        found = run_batch(self.hidden, inputs, layout, self.attention, self.layer_count, depth, parts)
        return [self.merging.split(hidden, layout.merging) for hidden in found]

    @property
    def context_length(self) -> int | None:
        """The most positions that the backbone is made for; None if its configuration does not say."""
        return getattr(self.backbone.config.get_text_config(), "max_position_embeddings", None)

    @property
    def layer_count(self) -> int:
        """Layers of the backbone: those that a depth policy is asked for."""
        return len(self.library)

    @property
    def layers_in_all(self) -> int:
        """Layers of the backbone and of the blocks behind it."""
        return len(self.library) + len(self.read_outs)

    def hidden(self, embeds: Tensor, run: Pass) -> list[Tensor]:
        """The backbone: embeddings [R, n, D] under a pass -> for each head, hidden states [R, n, D]. Features
        for the first L layers may stand behind them: [R, n, D (1 + L)]."""
        embeds, run = split_deeper(embeds, self.width, run)
        embeds = self.extras.position_inputs(embeds, run.positions)
        fused = self.fused if run.append is not None and not torch.is_grad_enabled() else None
        first = len(self.library)
        more = [cast(ReadOut, x).layers(self.backbone, first + n) for n, x in enumerate(self.read_outs)]
        return run_layers([fused or self.library, *more] if more else [fused or self.library], embeds, run)

    def text_logits(self, hidden: Tensor) -> Tensor:
        """[..., D] -> [..., rows of the non-visual table], float32."""
        return self.text_head(hidden).float()

    # What a Session needs -----------------------------------------------------------------------------------

    def steer(self, ids: Tensor, values: Mapping[str, Tensor] | None = None) -> None:
        """The stream alone steers this model."""

    def read(self, ids: Tensor, layout: Layout, values: Mapping[str, Tensor] | None = None) -> Tensor:
        """Embeddings [B, P, D] of the positions of ids [B, n], with `values` at placeholders."""
        plain = not values and not layout.writes and not len(self.readers) and ids.device.type == "cpu"
        if plain and not bool(self.vocabulary.is_visual(ids).any()):  # words alone: no slot is asked for
            return self.merging.merge(self.embed_ids(ids), layout.merging)
        return self.merging.merge(self.embed(ids, layout, values), layout.merging)

    @property
    def ends(self) -> frozenset[int]:
        """Ids that end an answer beside `end`: those of a pretrained model that was extended."""
        return frozenset((self.config.base or {}).get("ends", ()))

    def values(self, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """What an image processor returns -> values for the placeholders of its images (`vision_tower`).
        ValueError for a model without a vision tower."""
        if FEATURES not in self.readers:
            raise ValueError("this model has no vision tower: it reads images as codes")
        reader: Any = self.readers[FEATURES]
        found: dict[str, Tensor] = reader.values(inputs)
        return found

    def null_stream(self, ids: Sequence[int]) -> list[int]:
        """The stream of the null branch of guidance: the same turns and images, without what the user wrote
        and what the assistant says of what it draws."""
        return null_stream(ids, self.vocabulary)

    def new_cache(self, rows: int = 1, capacity: int = 256, *, static: bool = False) -> KVCache:
        if self.fused is not None and not fusible(self.backbone):  # adapters have been put in since
            self.fused = None
        return KVCache(self.layers_in_all, rows, capacity, static=static, device=self.device)

    def write(self, plan: Plan, rows: int, condition: object = None) -> Writer:
        """The state of one image being written in `rows` rows."""
        self._check_plan(plan)
        return Writer(
            plan,
            rows,
            slots=self.slots,
            extras=self.extras,
            merging=self.merging,
            heads=self.heads,
            embed_ids=self.embed_ids,
        )

    # What the code of `transformers` calls on models --------------------------------------------------------

    def load_state_dict(self, state_dict: Mapping[str, Any], *arguments: Any, **named: Any) -> Any:
        """Weights may have the names of an earlier form."""
        self.fused = None
        renamed = {weight_name(name): value for name, value in state_dict.items()}
        return super().load_state_dict(renamed, *arguments, **named)

    def set_attn_implementation(self, attn_implementation: Any, allow_all_kernels: bool = False) -> None:
        """Another back-end, by one of our names or of the library's (`backbone.attention`). ValueError, and
        nothing is changed, for an unknown one or a package that is not installed."""
        kind = backend_of(attn_implementation)
        self.attend = of_session(kind)
        self.attention = kind
        self.config._attn_implementation_internal = attn_implementation

    def generate(self, input_ids: Tensor | None = None, **options: Any) -> Tensor:
        """Text after prompts, through a `Session`: `decoding.generate.generate`, where the options are."""
        from unified.decoding.generate import generate

        model: Any = self
        return generate(model, input_ids, **options)

    def prepare_inputs_for_generation(self, *_: object, **__: object) -> dict[str, Any]:
        """peft's `PeftModelForCausalLM` wants the method; ValueError if it is called: the library's own loop
        knows tokens alone, so a `Session` generates."""
        raise ValueError("generate cannot write images: use unified.decoding.session.Session")

    def library_model(self) -> Any:
        """A `UnifiedModel`, which the code of `transformers` and trainers take, of the same weights: what
        becomes of them is seen by both."""
        from unified.model import UnifiedModel

        model = UnifiedModel(self.config)
        model.load_state_dict(self.state_dict(keep_vars=True), assign=True)
        model.name_or_path = self.name_or_path
        return nn.Module.to(model, self.device).train(self.training)

    def save_pretrained(self, *arguments: Any, **named: Any) -> None:
        """As of `PreTrainedModel`."""
        self.library_model().save_pretrained(*arguments, **named)


__all__ = ["CoreModel", "Kind", "UnifiedConfig", "UnifiedOutput", "Writer"]
