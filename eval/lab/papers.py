"""The forty-nine papers as data: name, title, arXiv number, and the part that holds the technique. What is
registered as an experiment, and what came of it, is not written here but looked up."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Paper:
    """`part`: the module of this package that holds the technique, "" where there is none yet."""

    name: str
    title: str
    arxiv: str
    part: str = ""


_ROWS = """
acdit | ACDiT: blockwise conditional diffusion, skip-causal attention | 2412.07720 | checkpoints.acdit
ar_survey | Autoregressive Models in Vision: A Survey | 2411.05902 | orders
asvr | Autoregressive semantic visual reconstruction | 2506.09040 | objectives.visual_reconstruction
bridge | Bridge: growing visual generation in a pretrained multimodal model | 2510.01546 | backbone.mixture
cca | CCA: condition contrastive alignment | 2410.09347 | objectives.cca
core2 | CoRe^2: collect, reflect and refine | 2503.09662 | decoding.weak_guidance
csd_var | CSD-VAR: content-style decomposition | 2507.13984 | objectives.content_style
cspd | Continuous speculative decoding | 2411.11925 | decoding.strategies.gaussian
ddo | DDO: direct discriminative optimization | 2503.01103 | objectives.ddo
ear | EAR: erasing concepts from unified autoregressive models | 2506.20151 | objectives.erasure
ecm | ECM: efficient control of scale-based models | 2510.05610 | backbone.parts.scale_control
epona | Epona: autoregressive diffusion world model | 2506.24113 | checkpoints.epona
flash | FLASH: latent-aware semi-autoregressive speculative decoding | 2505.12728 | checkpoints.flash
flexvar | FlexVAR: next-scale prediction without residuals | 2502.20313 | orders.next_scale
future_sight_drive | FutureSightDrive: a drawn future frame as thought | 2505.17685 | decoding.visual_thought
fvq | FVQ: full codebook use by generating the codebook | 2509.10140 | tokenizers.codebook
gigatok | GigaTok: scaling visual tokenizers | 2504.08736 | checkpoints.gigatok
govig | GoViG: navigation instructions from start and goal views | 2508.09547 | objectives.codebook_distance
hack | HACK: head-aware cache compression | 2504.09261 | cache.hack
harmon | Harmon: one masked encoder for understanding and generation | 2503.21979 | checkpoints.harmon
himar | Hi-MAR: hierarchical masked autoregression | 2505.20288 | checkpoints.himar
hita | Hita: holistic tokens first, local tokens after | 2507.02358 | checkpoints.hita
ig_llm | Re-thinking inverse graphics with large language models | 2404.15228 | heads.numbers
lantern | LANTERN: relaxed speculative decoding for visual tokens | 2410.03355 | decoding.strategies.lantern
larp | LARP: a video tokenizer with a learned autoregressive prior | 2410.21264 | checkpoints.larp
latent_sketchpad | Latent Sketchpad: text and visual latents | 2510.24514 | vision_language.sketchpad
m3id | M3ID: multi-modal mutual-information decoding | 2403.14003 | decoding.grounding
mineworld | MineWorld: an autoregressive world model of Minecraft | 2504.08388 | checkpoints.mineworld
nar | NAR: neighbouring autoregressive modelling | 2503.10696 | orders.nar
nsarm | NSARM: next-scale super-resolution | 2510.00820 | checkpoints.nsarm
orthus | Orthus: interleaved generation with modality-specific heads | 2412.00127 | checkpoints.orthus
rag_igbench | RAG-IGBench: retrieval-augmented interleaved generation | 2512.05119 | eval.metrics.interleaved
sar | SAR: self-autoregressive refinement | 2512.06421 | objectives.self_refinement
scalekv | ScaleKV: scale-aware cache compression | 2505.19602 | cache.scalekv
scaleweaver | ScaleWeaver: reference attention over scales | 2510.14882 | backbone.parts.reference_attention
selftok | Selftok: discrete visual tokens by diffusion | 2505.07538 | checkpoints.selftok
semaim | SemAIM: semantic-aware autoregressive image modelling | 2312.10457 | orders.rings
skywork_unipic | Skywork UniPic: decoupled encoders, masked generation | 2508.03320 | checkpoints.unipic
subject_driven_var | ARBooth: subject-driven visual autoregressive models | 2504.02612 | checkpoints.arbooth
t2i_compbench | Diffusion beats autoregressive: compositional evaluation | 2410.22775 | eval.metrics.compbench
token_unify | TokenUnify: mixture token prediction | 2405.16847 | orders.task_mixture
tokenbridge | TokenBridge: discretising a finished continuous tokenizer | 2503.16430 | heads.channel_codes
var | VAR: next-scale prediction | 2404.02905 | orders.residual
varedit | VAREdit: editing by instruction with a scale-aligned reference | 2508.15772 | checkpoints.varedit
vargpt_v11 | VARGPT-v1.1: iterative instruction tuning and DPO | 2504.02949 | checkpoints.vargpt
variant | VARiant: depth chosen per scale at run time | 2511.16546 | depth.variant
vita | VITA: one latent stream for frames and actions | 2511.19859 | tokenizers.shared_latent
vtbench | VTBench: evaluating visual tokenizers | 2505.13439 | eval.suites.vtbench
xar | xAR: next-X prediction with flow matching | 2502.20388 | orders.units
"""


def _paper(line: str) -> Paper:
    """A row: what it says of a part is the name below `unified`."""
    name, title, arxiv, *part = line.split(" | ")
    return Paper(name, title, arxiv, "".join(f"unified.{one}" for one in part))


PAPERS = {paper.name: paper for paper in map(_paper, _ROWS.strip().splitlines())}


def check_paper(name: str) -> None:
    """ValueError for the name of no paper."""
    if name not in PAPERS:
        raise ValueError(f"no experiment is called {name!r}: there are {', '.join(PAPERS)}")
