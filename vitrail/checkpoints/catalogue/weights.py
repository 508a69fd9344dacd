"""Published weights: where each file is, what it is, under which licence, and what was reported.

Literal rows; nothing here opens a connection (`download.py` does, on request). Sources of addresses
and figures, by the tag in `reported_by`, each read in the file named:

    VT   google-research/vision_transformer README: AugReg table; "-224" of the first release
    BT   google-research/big_transfer README @140de6e
    BV   google-research/big_vision models/vit.py VANITY_NAMES @0b73d7b
    TM   timm results-imagenet.csv and the cfgs of models/vision_transformer*.py, resnetv2.py:
         measured with timm's own preprocessing, on the same tensors
    DT   facebookresearch/deit README_deit.md @4da6691, README_revenge.md @4bd679b
    D2   facebookresearch/dinov2 README @04b9100 (backbones without a head)
    TV   torchvision models/vision_transformer.py @07a929e

Figures are top-1 on the 50,000 validation pictures of ImageNet-1k, as a fraction, at `image_size`.
No publisher states a sha256. PyTorch's hub writes its first 8 digits into the file name
(`check_hash` of torch.hub), which are checked; of every other file the first download notes the
sha256 beside it in the cache, and a later download must equal it.

Licences: what the publisher's page says of the weights or of the repository that publishes them.
"see source" where it says nothing of the weights.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from vitrail.checkpoints.catalogue.augreg_names import parse_augreg
from vitrail.data.images.preprocess import Preprocess
from vitrail.errors import ModelError, nearest

GOOGLE = "https://storage.googleapis.com"
FACEBOOK = "https://dl.fbaipublicfiles.com"
PYTORCH = "https://download.pytorch.org/models"
APACHE, UNSTATED = "Apache-2.0", "see source"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
I1K, I21K = 1000, 21843


@dataclass(frozen=True)
class Weights:
    """One published file. model: the architecture as `vitrail models` lists it; address: https, or
    "hf:OWNER/NAME"; num_classes: outputs of the head, 0 without one; preprocess: of the publisher's
    evaluation (spec 2.6), None where the file or folder itself says; top1: reported, a fraction.
    """

    name: str
    model: str
    address: str
    origin: str
    image_size: tuple[int, int]
    num_classes: int
    trained_on: str
    licence: str = APACHE
    preprocess: Preprocess | None = None
    top1: float | None = None
    reported_by: str = ""
    sha256: str | None = None

    @property
    def sha256_start(self) -> str:
        """What is known of the sha256: all of it, or the digits in the file name, or nothing."""
        found = re.search(r"-([0-9a-f]{8})\.pth$", self.address)
        return self.sha256 or (found[1] if found else "")


def squashed(size: int) -> Preprocess:
    """vision_transformer: the whole picture to size x size by TensorFlow's resize (spec 2.6)."""
    return Preprocess(height=size, width=size, resize=(size, size), interpolation="bilinear",
                      resizer="tensorflow", antialias=False, keep_floats=True)  # fmt: skip


def squashed_by_pillow(size: int) -> Preprocess:
    """big_transfer."""
    return Preprocess(height=size, width=size, resize=(size, size), interpolation="bilinear")


def small_crop(size: int) -> Preprocess:
    """big_vision: `resize_small(256)|central_crop(224)`, and in proportion."""
    return Preprocess(height=size, width=size, resize=size * 8 // 7, crop="center_floor",
                      interpolation="area", resizer="tensorflow")  # fmt: skip


def cropped(size: int, short: int, interpolation: str, *, imagenet: bool = False) -> Preprocess:
    """timm, torchvision, DeiT: the short side to `short` px, then the centre."""
    stats = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD} if imagenet else {}
    return Preprocess.model_validate(
        {"height": size, "width": size, "resize": short, "crop": "center"}
        | {"interpolation": interpolation}
        | stats
    )


# ---- vision_transformer: https://storage.googleapis.com/vit_models (VT) --------------------------
# file, lr of the fine-tuned half at 384 px, its top-1 in the README's table
RECOMMENDED = (
    ("L_16-i21k-300ep-lr_0.001-aug_strong1-wd_0.1-do_0.0-sd_0.0", "lr_0.01", 0.8559),
    ("B_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0", "lr_0.03", 0.8549),
    ("S_16-i21k-300ep-lr_0.001-aug_light1-wd_0.03-do_0.0-sd_0.0", "lr_0.03", 0.8373),
    ("R50_L_32-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.1-sd_0.1", "lr_0.01", 0.8599),
    ("R26_S_32-i21k-300ep-lr_0.001-aug_light1-wd_0.1-do_0.0-sd_0.0", "lr_0.01", 0.8385),
    ("Ti_16-i21k-300ep-lr_0.001-aug_none-wd_0.03-do_0.0-sd_0.0", "lr_0.03", 0.7822),
    ("B_32-i21k-300ep-lr_0.001-aug_light1-wd_0.1-do_0.0-sd_0.0", "lr_0.01", 0.8359),
    ("S_32-i21k-300ep-lr_0.001-aug_none-wd_0.1-do_0.0-sd_0.0", "lr_0.01", 0.7958),
    ("R_Ti_16-i21k-300ep-lr_0.001-aug_none-wd_0.03-do_0.0-sd_0.0", "lr_0.03", 0.7540),
)
# timm's choices at 224 px (best downstream), files of its cfgs: file, lr of the second half, top-1
AUGREG_224: tuple[tuple[str, str, float | None], ...] = (
    ("B_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0", "lr_0.01", 0.8453),
    ("L_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.1-sd_0.1", "lr_0.01", 0.8586),
    ("S_16-i21k-300ep-lr_0.001-aug_light1-wd_0.03-do_0.0-sd_0.0", "lr_0.03", 0.8140),
    ("Ti_16-i21k-300ep-lr_0.001-aug_none-wd_0.03-do_0.0-sd_0.0", "lr_0.03", 0.7545),
    ("B_32-i21k-300ep-lr_0.001-aug_medium1-wd_0.03-do_0.0-sd_0.0", "lr_0.03", 0.8073),
    ("R26_S_32-i21k-300ep-lr_0.001-aug_light0-wd_0.03-do_0.1-sd_0.1", "lr_0.03", 0.8186),
    ("B_16-i1k-300ep-lr_0.001-aug_strong2-wd_0.1-do_0.1-sd_0.1", "lr_0.01", 0.7915),
    ("S_16-i1k-300ep-lr_0.001-aug_medium2-wd_0.1-do_0.0-sd_0.0", "lr_0.01", 0.7884),
    ("B_8-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0", "lr_0.01", None),
)
# the models of the 2020 paper: file, architecture, image size, top-1, tag
FINE_TUNED = (
    ("ViT-B_16", "vit_b16", 384, None, ""),
    ("ViT-B_32", "vit_b32", 384, None, ""),
    ("ViT-L_16", "vit_l16", 384, None, ""),
    ("ViT-L_32", "vit_l32", 384, None, ""),
    ("ViT-B_16-224", "vit_b16", 224, 0.812, "VT"),
    ("ViT-L_16-224", "vit_l16", 224, 0.827, "VT"),
)
PRETRAINED = (
    ("ViT-B_16", "vit_b16"),
    ("ViT-B_32", "vit_b32"),
    ("ViT-L_16", "vit_l16"),
    ("ViT-L_32", "vit_l32"),
    ("ViT-H_14", "vit_h14"),
    ("R50+ViT-B_16", "r50_vit_b16"),
)
SAM = (("ViT-B_16", "vit_b16", 0.8025), ("ViT-B_32", "vit_b32", 0.7370))  # TM


def _vision_transformer() -> Iterator[Weights]:
    root = f"{GOOGLE}/vit_models"
    for file, lr, top1 in RECOMMENDED:
        yield _augreg(file, None, "")
        yield _augreg(f"{file}--imagenet2012-steps_20k-{lr}-res_384", top1, "VT")
    for file, lr, measured in AUGREG_224:
        tag = "TM" if measured else ""
        yield _augreg(f"{file}--imagenet2012-steps_20k-{lr}-res_224", measured, tag)
    for file, model in PRETRAINED:
        address = f"{root}/imagenet21k/{file}.npz"
        yield Weights(f"{model}.i21k", model, address, "google", (224, 224), I21K, "ImageNet-21k",
                      preprocess=squashed(224))  # fmt: skip
    for file, model, size, figure, source in FINE_TUNED:
        address = f"{root}/imagenet21k+imagenet2012/{file}.npz"
        yield Weights(f"{model}.i21k_i1k_{size}", model, address, "google", (size, size), I1K,
                      "ImageNet-21k, ImageNet-1k", preprocess=squashed(size), top1=figure,
                      reported_by=source)  # fmt: skip
    for file, model, sam_top1 in SAM:
        yield Weights(f"{model}.sam_i1k_224", model, f"{root}/sam/{file}.npz", "google",
                      (224, 224), I1K, "ImageNet-1k", preprocess=squashed(224), top1=sam_top1,
                      reported_by="TM")  # fmt: skip


def _augreg(file: str, top1: float | None, tag: str) -> Weights:
    """Architecture, size and classes are in the name."""
    name = parse_augreg(file)
    size = name.image_size[0]
    upstream = {"i1k": "ImageNet-1k"}.get(name.dataset, "ImageNet-21k")
    chain = upstream if name.adapted is None else f"{upstream}, ImageNet-1k"
    ending = f"_i1k_{size}" if name.adapted else ""
    return Weights(
        f"{name.slug}.augreg_{name.dataset}{ending}",
        name.slug,
        f"{GOOGLE}/vit_models/augreg/{name}.npz",
        "google",
        name.image_size,
        name.num_classes or 0,
        "ImageNet-1k" if chain == "ImageNet-1k, ImageNet-1k" else chain,
        preprocess=squashed(size),
        top1=top1,
        reported_by=tag,
    )


# ---- big_transfer: https://storage.googleapis.com/bit_models (BT) --------------------------------
BIT = ("r50x1", "r50x3", "r101x1", "r101x3", "r152x2", "r152x4")
DISTILLED = (  # file, size, top-1
    ("R50x1_224", 224, 0.828),
    ("R50x1_160", 160, 0.805),
)


def _big_transfer() -> Iterator[Weights]:
    root = f"{GOOGLE}/bit_models"
    plain = cropped(224, 256, "bilinear")
    for model in BIT:
        slug, file = f"bit_{model}", model.replace("r", "R")
        yield Weights(f"{slug}.s_i1k_224", slug, f"{root}/BiT-S-{file}.npz", "bit", (224, 224), I1K,
                      "ImageNet-1k", preprocess=plain)  # fmt: skip
        yield Weights(f"{slug}.m_i21k", slug, f"{root}/BiT-M-{file}.npz", "bit", (224, 224), I21K,
                      "ImageNet-21k", preprocess=plain)  # fmt: skip
        yield Weights(f"{slug}.m_i21k_i1k_480", slug, f"{root}/BiT-M-{file}-ILSVRC2012.npz", "bit",
                      (480, 480), I1K, "ImageNet-21k, ImageNet-1k",
                      preprocess=squashed_by_pillow(480))  # fmt: skip
    for file, size, top1 in DISTILLED:
        yield Weights(f"bit_r50x1.distilled_i1k_{size}", "bit_r50x1", f"{root}/distill/{file}.npz",
                      "bit", (size, size), I1K, "ImageNet-1k, by BiT-M-R152x2",
                      preprocess=cropped(224, 256, "bicubic") if size == 224 else None,
                      top1=top1, reported_by="BT")  # fmt: skip


# ---- big_vision: https://storage.googleapis.com/big_vision (BV) ----------------------------------
DEIT3_COPIES = (("small", "vit_s16"), ("base", "vit_b16"), ("large", "vit_l16"))


def _big_vision() -> Iterator[Weights]:
    root = f"{GOOGLE}/big_vision"
    for epochs in (90, 150, 300):
        yield Weights(f"vit_s16.plain_i1k_{epochs}ep", "vit_s16",
                      f"{root}/vit_s16_i1k_{epochs}ep.npz", "big_vision", (224, 224), I1K,
                      "ImageNet-1k", preprocess=small_crop(224))  # fmt: skip
    for word, model in DEIT3_COPIES:
        for size in (224, 384):
            for data, chain in (("1k", "ImageNet-1k"), ("21k", "ImageNet-21k, ImageNet-1k")):
                yield Weights(f"{model}.bv_deit3_{data}_{size}", model,
                              f"{root}/zoo/deit3/bv_deit_3_{word}_{size}_{data}.npz", "big_vision",
                              (size, size), I1K, chain,
                              preprocess=cropped(size, size, "bicubic"))  # fmt: skip


# ---- DeiT, DeiT-III: https://dl.fbaipublicfiles.com/deit (DT) ------------------------------------
DEIT = (  # file, architecture, name, size, top-1
    ("deit_tiny_patch16_224-a1311bcf", "vit_ti16", "deit_i1k_224", 224, 0.722),
    ("deit_small_patch16_224-cd65a155", "vit_s16", "deit_i1k_224", 224, 0.799),
    ("deit_base_patch16_224-b5f2ef4d", "vit_b16", "deit_i1k_224", 224, 0.818),
    ("deit_base_patch16_384-8de9b5d1", "vit_b16", "deit_i1k_384", 384, 0.829),
    ("deit_tiny_distilled_patch16_224-b40b3cf7", "vit_ti16", "deit_distilled_i1k_224", 224, 0.745),
    ("deit_small_distilled_patch16_224-649709d9", "vit_s16", "deit_distilled_i1k_224", 224, 0.812),
    ("deit_base_distilled_patch16_224-df68dfff", "vit_b16", "deit_distilled_i1k_224", 224, 0.834),
    ("deit_base_distilled_patch16_384-d0272ac0", "vit_b16", "deit_distilled_i1k_384", 384, 0.852),
)
DEIT3 = (  # file, architecture, size, data, top-1
    ("deit_3_small_224_1k", "vit_s16", 224, "1k", 0.814),
    ("deit_3_small_384_1k", "vit_s16", 384, "1k", 0.834),
    ("deit_3_base_224_1k", "vit_b16", 224, "1k", 0.838),
    ("deit_3_base_384_1k", "vit_b16", 384, "1k", 0.850),
    ("deit_3_large_224_1k", "vit_l16", 224, "1k", 0.849),
    ("deit_3_large_384_1k", "vit_l16", 384, "1k", 0.858),
    ("deit_3_huge_224_1k", "vit_h14", 224, "1k", 0.852),
    ("deit_3_small_224_21k", "vit_s16", 224, "21k", 0.831),
    ("deit_3_small_384_21k", "vit_s16", 384, "21k", 0.848),
    ("deit_3_base_224_21k", "vit_b16", 224, "21k", 0.857),
    ("deit_3_base_384_21k", "vit_b16", 384, "21k", 0.867),
    ("deit_3_large_224_21k", "vit_l16", 224, "21k", 0.870),
    ("deit_3_large_384_21k", "vit_l16", 384, "21k", 0.877),
    ("deit_3_huge_224_21k_v1", "vit_h14", 224, "21k", 0.872),
)


def _deit() -> Iterator[Weights]:
    for file, model, name, size, top1 in DEIT:
        yield Weights(f"{model}.{name}", model, f"{FACEBOOK}/deit/{file}.pth", "deit", (size, size),
                      I1K, "ImageNet-1k", top1=top1, reported_by="DT", preprocess=cropped(
                          size, 256 if size == 224 else size, "bicubic", imagenet=True,
                      ))  # fmt: skip
    for file, model, size, data, top1 in DEIT3:
        chain = "ImageNet-1k" if data == "1k" else "ImageNet-21k, ImageNet-1k"
        yield Weights(f"{model}.deit3_{data}_{size}", model, f"{FACEBOOK}/deit/{file}.pth", "deit",
                      (size, size), I1K, chain, top1=top1, reported_by="DT",
                      preprocess=cropped(size, size, "bicubic", imagenet=True))  # fmt: skip


# ---- DINOv2: https://dl.fbaipublicfiles.com/dinov2 (D2); the heads are other files ---------------
DINOV2 = (("vits14", "vit_s14"), ("vitb14", "vit_b14"), ("vitl14", "vit_l14"))


def _dinov2() -> Iterator[Weights]:
    for word, model in DINOV2:
        for name, tail in (("dinov2", ""), ("dinov2_reg4", "_reg4")):
            folder = f"{FACEBOOK}/dinov2/dinov2_{word}"
            yield Weights(f"{model}.{name}", model, f"{folder}/dinov2_{word}{tail}_pretrain.pth",
                          "dinov2", (518, 518), 0, "LVD-142M, without labels",
                          preprocess=cropped(518, 518, "bicubic", imagenet=True))  # fmt: skip


# ---- torchvision: https://download.pytorch.org/models (TV) ---------------------------------------
SWAG = "https://github.com/facebookresearch/SWAG/blob/main/LICENSE"
TORCHVISION = (  # file, architecture, name, size, short side, interpolation, top-1
    ("vit_b_16-c867db91", "vit_b16", "tv_i1k_224", 224, 256, "bilinear", 0.81072),
    ("vit_b_32-d86f8d99", "vit_b32", "tv_i1k_224", 224, 256, "bilinear", 0.75912),
    ("vit_l_16-852ce7e3", "vit_l16", "tv_i1k_224", 224, 242, "bilinear", 0.79662),
    ("vit_l_32-c7638314", "vit_l32", "tv_i1k_224", 224, 256, "bilinear", 0.76972),
    ("vit_b_16_swag-9ac1b537", "vit_b16", "tv_swag_i1k_384", 384, 384, "bicubic", 0.85304),
    ("vit_b_16_lc_swag-4e70ced5", "vit_b16", "tv_swag_linear_i1k_224", 224, 224, "bicubic",
     0.81886),
    ("vit_l_16_swag-4f3808c9", "vit_l16", "tv_swag_i1k_512", 512, 512, "bicubic", 0.88064),
    ("vit_l_16_lc_swag-4d563306", "vit_l16", "tv_swag_linear_i1k_224", 224, 224, "bicubic",
     0.85146),
    ("vit_h_14_swag-80465313", "vit_h14", "tv_swag_i1k_518", 518, 518, "bicubic", 0.88552),
    ("vit_h_14_lc_swag-c1eb923e", "vit_h14", "tv_swag_linear_i1k_224", 224, 224, "bicubic",
     0.85708),
)  # fmt: skip


def _torchvision() -> Iterator[Weights]:
    for file, model, name, size, short, interpolation, top1 in TORCHVISION:
        is_swag = "swag" in name
        yield Weights(f"{model}.{name}", model, f"{PYTORCH}/{file}.pth", "torchvision",
                      (size, size), I1K, "SWAG, ImageNet-1k" if is_swag else "ImageNet-1k",
                      SWAG if is_swag else UNSTATED,
                      cropped(size, short, interpolation, imagenet=True), top1, "TV")  # fmt: skip


# ---- Hugging Face hub (needs the extra [hub]); preprocessing stands in the repository ------------
HUB = (  # repository, architecture, name, origin, size, classes, data, top-1, tag
    ("google/vit-base-patch16-224", "vit_b16", "hf_i21k_i1k_224", "huggingface", 224, I1K,
     "ImageNet-21k, ImageNet-1k", None, ""),
    ("google/vit-base-patch16-384", "vit_b16", "hf_i21k_i1k_384", "huggingface", 384, I1K,
     "ImageNet-21k, ImageNet-1k", None, ""),
    ("google/vit-large-patch16-224", "vit_l16", "hf_i21k_i1k_224", "huggingface", 224, I1K,
     "ImageNet-21k, ImageNet-1k", None, ""),
    ("facebook/deit-base-patch16-224", "vit_b16", "hf_deit_i1k_224", "huggingface", 224, I1K,
     "ImageNet-1k", None, ""),
    ("timm/vit_base_patch16_224.augreg_in21k_ft_in1k", "vit_b16", "timm_augreg_i21k_i1k_224",
     "timm", 224, I1K, "ImageNet-21k, ImageNet-1k", 0.8453, "TM"),
    ("timm/vit_base_patch16_384.augreg_in21k_ft_in1k", "vit_b16", "timm_augreg_i21k_i1k_384",
     "timm", 384, I1K, "ImageNet-21k, ImageNet-1k", 0.8601, "TM"),
    ("timm/vit_large_patch16_384.augreg_in21k_ft_in1k", "vit_l16", "timm_augreg_i21k_i1k_384",
     "timm", 384, I1K, "ImageNet-21k, ImageNet-1k", 0.8710, "TM"),
    ("timm/vit_base_patch16_224.orig_in21k_ft_in1k", "vit_b16", "timm_i21k_i1k_224", "timm", 224,
     I1K, "ImageNet-21k, ImageNet-1k", 0.8178, "TM"),
    ("timm/vit_base_patch16_384.orig_in21k_ft_in1k", "vit_b16", "timm_i21k_i1k_384", "timm", 384,
     I1K, "ImageNet-21k, ImageNet-1k", 0.8421, "TM"),
    ("timm/vit_large_patch32_384.orig_in21k_ft_in1k", "vit_l32", "timm_i21k_i1k_384", "timm", 384,
     I1K, "ImageNet-21k, ImageNet-1k", 0.8151, "TM"),
    ("timm/vit_base_r50_s16_384.orig_in21k_ft_in1k", "r50_vit_b16", "timm_i21k_i1k_384", "timm",
     384, I1K, "ImageNet-21k, ImageNet-1k", 0.8499, "TM"),
    ("timm/vit_large_r50_s32_384.augreg_in21k_ft_in1k", "r50_vit_l32", "timm_augreg_i21k_i1k_384",
     "timm", 384, I1K, "ImageNet-21k, ImageNet-1k", 0.8619, "TM"),
    ("timm/resnetv2_50x1_bit.goog_in21k_ft_in1k", "bit_r50x1", "timm_m_i21k_i1k_448", "timm", 448,
     I1K, "ImageNet-21k, ImageNet-1k", None, ""),
)  # fmt: skip


def _hub() -> Iterator[Weights]:
    for repository, model, name, origin, size, classes, chain, top1, tag in HUB:
        yield Weights(f"{model}.{name}", model, f"hf:{repository}", origin, (size, size), classes,
                      chain, top1=top1, reported_by=tag)  # fmt: skip


ROWS = (
    *_vision_transformer(), *_big_transfer(), *_big_vision(),
    *_deit(), *_dinov2(), *_torchvision(), *_hub(),
)  # fmt: skip
CATALOGUE = {row.name: row for row in ROWS}


def weights_named(name: str) -> Weights:
    """Raises ModelError VIT-463 naming the nearest."""
    if name not in CATALOGUE:
        raise ModelError(
            "VIT-463",
            f"the catalogue has no weights {name}. {nearest(name, CATALOGUE)}",
            hint="All weights: vitrail models --weights",
        )
    return CATALOGUE[name]


def weights_of_model(model: str) -> list[Weights]:
    """Published weights of an architecture (`vit_b16`), in the order of the catalogue."""
    return [row for row in ROWS if row.model == model]
