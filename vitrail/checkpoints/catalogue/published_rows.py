"""Published Vision Transformers by shapes, form and function: what no tensor of them shows.

Read from the built modules of timm 1.0.31 (`vision_transformer.py`, `deit_names.py`, `eva.py`,
`vision_transformer_hybrid.py`: every entry whose tensors have no others' names), and from the code
of facebookresearch/deit, moco-v3, mae and dinov2, and of torchvision 0.28. Rows of models that are
not supported stand here too: their shapes and names are those of models that are.

A form is the words of `published.form_of`. eps is that of LayerNorm; more: what the model has
beyond ours, "" for those that are supported. Several names: entries that differ in image size only.
"""

from __future__ import annotations

from dataclasses import replace

from vitrail.checkpoints.catalogue.published_row import ROTARY, PublishedViT

SCALED = "attention scaled by 768^-0.5"


def _rows(form: str, *rows: PublishedViT) -> tuple[PublishedViT, ...]:
    return tuple(replace(row, form=form) for row in rows)


R = PublishedViT
ROWS: tuple[PublishedViT, ...] = (
    *_rows(
        "",
        R((768, 12, 3072, 16), 12, pool="gap", text=
          "vit_base_patch16_siglip_gap_224 vit_base_patch16_siglip_gap_256 "
          "vit_base_patch16_siglip_gap_384 vit_base_patch16_siglip_gap_512"),
        R((768, 12, 3072, 16), 16, pool="gap", text="vit_base_patch16_gap_224"),
        R((768, 12, 3072, 32), 12, gelu="gelu_tanh", pool="gap", text=
          "vit_base_patch32_siglip_gap_256"),
        R((1024, 24, 4096, 16), 16, pool="gap", text=
          "vit_large_patch16_siglip_gap_256 vit_large_patch16_siglip_gap_384"),
        R((1024, 24, 4096, 16), 16, gelu="gelu_tanh", pool="gap", text=
          "vit_large_patch16_siglip_gap_512"),
        R((1152, 27, 4304, 14), 16, pool="gap", text=
          "vit_so400m_patch14_siglip_gap_224 vit_so400m_patch14_siglip_gap_378 "
          "vit_so400m_patch14_siglip_gap_384 vit_so400m_patch14_siglip_gap_448 "
          "vit_so400m_patch14_siglip_gap_896"),
        R((1152, 27, 4304, 16), 16, gelu="gelu_tanh", pool="gap", text=
          "vit_so400m_patch16_siglip_gap_256 vit_so400m_patch16_siglip_gap_384 "
          "vit_so400m_patch16_siglip_gap_512"),
        R((1280, 32, 5120, 14), 16, pool="gap", text="vit_huge_patch14_gap_224"),
        R((1280, 32, 5120, 16), 16, pool="gap", text="vit_huge_patch16_gap_448"),
        R((1408, 40, 6144, 16), 16, pool="gap", text="vit_giant_patch16_gap_224"),
        R((1536, 40, 6144, 16), 16, gelu="gelu_tanh", pool="gap", text=
          "vit_giantopt_patch16_siglip_gap_256 vit_giantopt_patch16_siglip_gap_384"),
    ),
    *_rows(
        "cls",
        R((64, 6, 192, 16), 2, text="test_vit"),
        R((192, 12, 768, 16), 3, text=
          "vit_tiny_patch16_224 vit_tiny_patch16_224_in21k vit_tiny_patch16_384 "
          "deit_tiny_patch16_224"),
        R((384, 12, 1536, 8), 6, text="vit_small_patch8_224 vit_small_patch8_224_dino"),
        R((384, 12, 1536, 16), 6, text=
          "vit_small_patch16_224 vit_small_patch16_224_dino vit_small_patch16_224_in21k "
          "vit_small_patch16_384 deit_small_patch16_224 flexivit_small"),
        R((384, 12, 1536, 16), 12, text="mocov3_vit_small"),
        R((384, 12, 1536, 32), 6, text=
          "vit_small_patch32_224 vit_small_patch32_224_in21k vit_small_patch32_384"),
        R((768, 8, 2304, 16), 8, eps=1e-5, more=SCALED, text=
          "vit_small_p16_224 of timm before 2021"),
        R((768, 12, 3072, 8), 12, text=
          "vit_base_patch8_224 vit_base_patch8_224_dino vit_base_patch8_224_in21k"),
        R((768, 12, 3072, 16), 12, text=
          "vit_base_patch16_224 vit_base_patch16_224_dino vit_base_patch16_224_in21k "
          "vit_base_patch16_384 deit_base_patch16_224 deit_base_patch16_384 flexivit_base"),
        R((768, 12, 3072, 32), 12, text=
          "vit_base_patch32_224 vit_base_patch32_224_in21k vit_base_patch32_384"),
        R((1024, 24, 4096, 14), 16, text="vit_large_patch14_224"),
        R((1024, 24, 4096, 16), 16, text=
          "vit_large_patch16_224 vit_large_patch16_224_in21k vit_large_patch16_384 "
          "flexivit_large"),
        R((1024, 24, 4096, 32), 16, text=
          "vit_large_patch32_224 vit_large_patch32_224_in21k vit_large_patch32_384"),
        R((1280, 32, 5120, 14), 16, text="vit_huge_patch14_224 vit_huge_patch14_224_in21k"),
        R((1408, 40, 6144, 14), 16, text="vit_giant_patch14_224"),
        R((1664, 48, 8192, 14), 16, text="vit_gigantic_patch14_224"),
    ),
    *_rows(
        "map",
        R((768, 12, 3072, 16), 12, pool="map", text=
          "vit_base_patch16_siglip_224 vit_base_patch16_siglip_256 vit_base_patch16_siglip_384 "
          "vit_base_patch16_siglip_512"),
        R((768, 12, 3072, 32), 12, gelu="gelu_tanh", pool="map", text=
          "vit_base_patch32_siglip_256"),
        R((1024, 24, 4096, 16), 16, pool="map", text=
          "vit_large_patch16_siglip_256 vit_large_patch16_siglip_384"),
        R((1024, 24, 4096, 16), 16, gelu="gelu_tanh", pool="map", text=
          "vit_large_patch16_siglip_512"),
        R((1152, 27, 4304, 14), 16, pool="map", text=
          "vit_so400m_patch14_siglip_224 vit_so400m_patch14_siglip_378 "
          "vit_so400m_patch14_siglip_384"),
        R((1152, 27, 4304, 16), 16, gelu="gelu_tanh", pool="map", text=
          "vit_so400m_patch16_siglip_256 vit_so400m_patch16_siglip_384 "
          "vit_so400m_patch16_siglip_512"),
        R((1536, 40, 6144, 16), 16, gelu="gelu_tanh", pool="map", text=
          "vit_giantopt_patch16_siglip_256 vit_giantopt_patch16_siglip_384"),
    ),
    *_rows(
        "reg",
        R((896, 18, 2304, 16), 14, pool="gap", text=
          "vit_so150m_patch16_reg4_gap_256 vit_so150m_patch16_reg4_gap_384"),
    ),
    *_rows(
        "cls -qkvb",
        R((768, 8, 2304, 16), 8, eps=1e-5, more=SCALED, text=
          "vit_small_p16_224 of timm before 2021"),
        R((768, 12, 3072, 16), 12, text=
          "vit_base_patch16_224_miil vit_base_patch16_224_miil_in21k"),
    ),
    *_rows(
        "cls dist",
        R((192, 12, 768, 16), 3, text="deit_tiny_distilled_patch16_224"),
        R((384, 12, 1536, 16), 6, text="deit_small_distilled_patch16_224"),
        R((768, 12, 3072, 16), 12, text=
          "deit_base_distilled_patch16_224 deit_base_distilled_patch16_384"),
    ),
    *_rows(
        "cls ls",
        R((384, 12, 1536, 14), 6, text="vit_small_patch14_dinov2"),
        R((384, 12, 1536, 16), 6, text=
          "deit3_small_patch16_224 deit3_small_patch16_224_in21ft1k deit3_small_patch16_384 "
          "deit3_small_patch16_384_in21ft1k"),
        R((384, 36, 1536, 16), 6, text="vit_small_patch16_36x1_224"),
        R((512, 12, 2048, 16), 8, text=
          "deit3_medium_patch16_224 deit3_medium_patch16_224_in21ft1k"),
        R((768, 12, 3072, 14), 12, text="vit_base_patch14_dinov2"),
        R((768, 12, 3072, 16), 12, text=
          "deit3_base_patch16_224 deit3_base_patch16_224_in21ft1k deit3_base_patch16_384 "
          "deit3_base_patch16_384_in21ft1k"),
        R((896, 12, 3584, 16), 14, text="vit_base_patch16_plus_240"),
        R((896, 12, 3584, 32), 14, text="vit_base_patch32_plus_256"),
        R((1024, 24, 4096, 14), 16, text="vit_large_patch14_dinov2"),
        R((1024, 24, 4096, 16), 16, text=
          "deit3_large_patch16_224 deit3_large_patch16_224_in21ft1k deit3_large_patch16_384 "
          "deit3_large_patch16_384_in21ft1k"),
        R((1280, 32, 5120, 14), 16, text="deit3_huge_patch14_224 deit3_huge_patch14_224_in21ft1k"),
    ),
    *_rows(
        "cls stem",
        R((192, 12, 768, 8), 3, text=
          "vit_tiny_r_s16_p8_224 vit_tiny_r_s16_p8_224_in21k vit_tiny_r_s16_p8_384"),
        R((384, 12, 1536, 1), 6, text=
          "vit_small_r26_s32_224 vit_small_r26_s32_224_in21k vit_small_r26_s32_384"),
        R((768, 8, 2304, 1), 8, text="vit_small_resnet26d_224 vit_small_resnet50d_s16_224"),
        R((768, 12, 3072, 1), 12, text=
          "vit_base_r26_s32_224 vit_base_r50_s16_224 vit_base_r50_s16_224_in21k "
          "vit_base_r50_s16_384 vit_base_resnet26d_224 vit_base_resnet50_224_in21k "
          "vit_base_resnet50_384 vit_base_resnet50d_224"),
        R((1024, 24, 4096, 1), 16, text=
          "vit_large_r50_s32_224 vit_large_r50_s32_224_in21k vit_large_r50_s32_384"),
    ),
    *_rows(
        "ls -qkvb",
        R((512, 12, 2048, 16), 8, pool="gap", text=
          "vit_medium_patch16_gap_240 vit_medium_patch16_gap_256 vit_medium_patch16_gap_384"),
        R((640, 12, 2560, 16), 10, pool="gap", text="vit_betwixt_patch16_gap_256"),
    ),
    *_rows(
        "reg map",
        R((896, 18, 2304, 16), 14, pool="map", map_prefix=False, text=
          "vit_so150m_patch16_reg4_map_256"),
    ),
    *_rows(
        "torchvision cls",
        R((768, 12, 3072, 16), 12, text="vit_b_16"),
        R((768, 12, 3072, 32), 12, text="vit_b_32"),
        R((1024, 24, 4096, 16), 16, text="vit_l_16"),
        R((1024, 24, 4096, 32), 16, text="vit_l_32"),
        R((1280, 32, 5120, 14), 16, text="vit_h_14"),
    ),
    *_rows(
        "cls fc -norm",
        R((768, 12, 3072, 16), 12, pool="gap", text="mae_finetuned_vit_base"),
        R((1024, 24, 4096, 14), 16, pool="gap", text="eva_large_patch14_196 eva_large_patch14_336"),
        R((1024, 24, 4096, 16), 16, pool="gap", text="mae_finetuned_vit_large"),
        R((1280, 32, 5120, 14), 16, pool="gap", text="mae_finetuned_vit_huge"),
    ),
    *_rows(
        "cls ls -norm",
        R((1024, 24, 4096, 14), 16, final_norm=False, text="vit_intern300m_patch14_448"),
    ),
    *_rows(
        "cls ls swiglu",
        R((1536, 40, 4096, 14), 24, text="vit_giant_patch14_dinov2"),
    ),
    *_rows(
        "cls pre -patchb",
        R((256, 10, 1024, 16), 4, eps=1e-5, text="vit_xsmall_patch16_clip_224"),
        R((512, 12, 2048, 16), 8, eps=1e-5, text="vit_medium_patch16_clip_224"),
        R((512, 12, 2048, 32), 8, eps=1e-5, text="vit_medium_patch32_clip_224"),
        R((640, 12, 2560, 32), 10, eps=1e-5, text="vit_betwixt_patch32_clip_224"),
        R((768, 12, 3072, 16), 12, eps=1e-5, text=
          "vit_base_patch16_clip_224 vit_base_patch16_clip_384"),
        R((768, 12, 3072, 16), 12, eps=1e-5, gelu="quick_gelu", text=
          "vit_base_patch16_clip_quickgelu_224"),
        R((768, 12, 3072, 32), 12, eps=1e-5, text=
          "vit_base_patch32_224_clip_laion2b vit_base_patch32_clip_224 "
          "vit_base_patch32_clip_256 vit_base_patch32_clip_384 vit_base_patch32_clip_448"),
        R((768, 12, 3072, 32), 12, eps=1e-5, gelu="quick_gelu", text=
          "vit_base_patch32_clip_quickgelu_224"),
        R((896, 12, 3584, 16), 14, eps=1e-5, text="vit_base_patch16_plus_clip_240"),
        R((1024, 24, 4096, 14), 16, eps=1e-5, text=
          "vit_large_patch14_224_clip_laion2b vit_large_patch14_clip_224 "
          "vit_large_patch14_clip_336"),
        R((1024, 24, 4096, 14), 16, eps=1e-5, gelu="quick_gelu", text=
          "vit_large_patch14_clip_quickgelu_224 vit_large_patch14_clip_quickgelu_336"),
        R((1280, 32, 5120, 14), 16, eps=1e-5, text=
          "vit_huge_patch14_224_clip_laion2b vit_huge_patch14_clip_224 "
          "vit_huge_patch14_clip_336 vit_huge_patch14_clip_378"),
        R((1280, 32, 5120, 14), 16, eps=1e-5, gelu="quick_gelu", text=
          "vit_huge_patch14_clip_quickgelu_224 vit_huge_patch14_clip_quickgelu_378"),
        R((1408, 40, 6144, 14), 16, eps=1e-5, text=
          "vit_giant_patch14_224_clip_laion2b vit_giant_patch14_clip_224"),
        R((1664, 48, 8192, 14), 16, eps=1e-5, text=
          "vit_gigantic_patch14_clip_224 vit_gigantic_patch14_clip_378"),
        R((1664, 48, 8192, 14), 16, eps=1e-5, gelu="quick_gelu", text=
          "vit_gigantic_patch14_clip_quickgelu_224"),
    ),
    *_rows(
        "cls reg -norm",
        R((1152, 27, 4304, 16), 16, final_norm=False, text="vit_so400m_patch16_radio_v4"),
        R((1280, 32, 5120, 16), 16, final_norm=False, text=
          "vit_huge_patch16_radio_v3 vit_huge_patch16_radio_v4"),
        R((1536, 40, 6144, 16), 24, final_norm=False, text="vit_giant_patch16_radio_v3"),
    ),
    *_rows(
        "cls reg ls",
        R((384, 12, 1536, 14), 6, text="vit_small_patch14_reg4_dinov2"),
        R((768, 12, 3072, 14), 12, text=
          "vit_base_patch14_reg1_tipsv2 vit_base_patch14_reg4_dinov2"),
        R((1024, 24, 4096, 14), 16, text=
          "vit_large_patch14_reg1_tipsv2 vit_large_patch14_reg4_dinov2"),
        R((1152, 27, 4304, 14), 16, text="vit_so400m_patch14_reg1_tipsv2"),
    ),
    *_rows(
        "dinov2 cls ls",
        R((384, 12, 1536, 14), 6, text="dinov2_vits14"),
        R((768, 12, 3072, 14), 12, text="dinov2_vitb14"),
        R((1024, 24, 4096, 14), 16, text="dinov2_vitl14"),
    ),
    *_rows(
        "fc -qkvb -norm",
        R((768, 12, 3072, 16), 12, pool="gap", block="branch", text=
          "vit_base_patch16_rpn_224"),
    ),
    *_rows(
        "gamma cls ls",
        R((384, 12, 1536, 16), 6, more=ROTARY, text="vit_small_patch16_rope_ape_224"),
        R((384, 12, 1536, 16), 6, text="deit_3_small_224_1k"),
        R((512, 12, 2048, 16), 8, text="deit_3_medium_224_1k"),
        R((768, 12, 3072, 16), 12, more=ROTARY, text="vit_base_patch16_rope_ape_224"),
        R((768, 12, 3072, 16), 12, text="deit_3_base_224_1k"),
        R((1024, 24, 4096, 16), 16, more=ROTARY, text="vit_large_patch16_rope_ape_224"),
        R((1024, 24, 4096, 16), 16, text="deit_3_large_224_1k"),
        R((1280, 32, 5120, 14), 16, text="deit_3_huge_224_1k"),
    ),
    *_rows(
        "pre map -patchb",
        R((1536, 50, 8960, 14), 16, eps=1e-5, pool="map", more=ROTARY, text=
          "vit_pe_core_gigantic_patch14_448"),
    ),
    *_rows(
        "reg fc -norm",
        R((768, 12, 3072, 16), 12, pool="gap", text="vit_base_patch16_reg4_gap_256"),
    ),
    *_rows(
        "reg ls map",
        R((96, 9, 192, 16), 3, pool="map", text="test_vit3"),
    ),
    *_rows(
        "cls pre -patchb -norm",
        R((192, 12, 768, 16), 3, eps=1e-5, pool="gap", more=ROTARY, text=
          "vit_pe_spatial_tiny_patch16_512"),
        R((384, 12, 1536, 16), 6, eps=1e-5, pool="gap", more=ROTARY, text=
          "vit_pe_spatial_small_patch16_512"),
        R((768, 12, 3072, 16), 12, eps=1e-5, pool="gap", more=ROTARY, text=
          "vit_pe_spatial_base_patch16_512"),
        R((1024, 24, 4096, 14), 16, eps=1e-5, pool="gap", more=ROTARY, text=
          "vit_pe_spatial_large_patch14_448"),
    ),
    *_rows(
        "cls pre map -patchb",
        R((192, 12, 768, 16), 3, eps=1e-5, pool="map", more=ROTARY, text=
          "vit_pe_core_tiny_patch16_384"),
        R((384, 12, 1536, 16), 6, eps=1e-5, pool="map", more=ROTARY, text=
          "vit_pe_core_small_patch16_384"),
        R((768, 12, 3072, 16), 12, eps=1e-5, pool="map", more=ROTARY, text=
          "vit_pe_core_base_patch16_224"),
        R((1024, 24, 4096, 14), 16, eps=1e-5, pool="map", more=ROTARY, text=
          "vit_pe_core_large_patch14_336"),
    ),
    *_rows(
        "cls reg ls -norm",
        R((768, 12, 3072, 16), 12, final_norm=False, text="vit_base_patch16_radio_v3"),
        R((1024, 24, 4096, 16), 16, final_norm=False, text="vit_large_patch16_radio_v3"),
    ),
    *_rows(
        "cls reg ls swiglu",
        R((1536, 40, 4096, 14), 24, text=
          "vit_giant_patch14_reg1_tipsv2 vit_giant_patch14_reg4_dinov2"),
    ),
    *_rows(
        "dinov2 cls ls swiglu",
        R((1536, 40, 4096, 14), 24, text="dinov2_vitg14"),
    ),
    *_rows(
        "dinov2 cls reg ls",
        R((384, 12, 1536, 14), 6, text="dinov2_vits14_reg"),
        R((768, 12, 3072, 14), 12, text="dinov2_vitb14_reg"),
        R((1024, 24, 4096, 14), 16, text="dinov2_vitl14_reg"),
    ),
    *_rows(
        "gamma cls ls -pos",
        R((384, 12, 1536, 16), 6, more=ROTARY, text="vit_small_patch16_rope_224"),
        R((768, 12, 3072, 16), 12, more=ROTARY, text="vit_base_patch16_rope_224"),
        R((1024, 24, 4096, 16), 16, more=ROTARY, text="vit_large_patch16_rope_224"),
    ),
    *_rows(
        "reg ls fc -norm",
        R((64, 8, 192, 16), 2, pool="gap", text="test_vit2"),
        R((256, 14, 1280, 16), 4, pool="gap", text="vit_wee_patch16_reg1_gap_256"),
        R((320, 14, 1792, 16), 5, pool="gap", text=
          "vit_little_patch16_reg1_gap_256 vit_little_patch16_reg4_gap_256"),
        R((512, 12, 2048, 16), 8, pool="gap", text=
          "vit_medium_patch16_reg1_gap_256 vit_medium_patch16_reg4_gap_256"),
        R((512, 20, 2048, 16), 8, pool="gap", text=
          "vit_mediumd_patch16_reg4_gap_256 vit_mediumd_patch16_reg4_gap_384"),
        R((640, 12, 2560, 16), 10, pool="gap", text=
          "vit_betwixt_patch16_reg1_gap_256 vit_betwixt_patch16_reg4_gap_256 "
          "vit_betwixt_patch16_reg4_gap_384"),
    ),
    *_rows(
        "dinov2 cls reg ls swiglu",
        R((1536, 40, 4096, 14), 24, text="dinov2_vitg14_reg"),
    ),
    *_rows(
        "gamma ls pre -patchb -norm",
        R((1536, 47, 8960, 14), 16, eps=1e-5, pool="gap", more=ROTARY, text=
          "vit_pe_lang_gigantic_patch14_448"),
        R((1536, 50, 8960, 14), 16, eps=1e-5, pool="gap", more=ROTARY, text=
          "vit_pe_spatial_gigantic_patch14_448"),
    ),
    *_rows(
        "reg ls fc -norm -normb",
        R((96, 9, 288, 16), 3, pool="gap", more="RMS norm", text="test_vit4"),
    ),
    *_rows(
        "reg ls fc -qkvb -norm",
        R((832, 21, 2176, 16), 13, pool="gap", text=
          "vit_so150m2_patch16_reg1_gap_256 vit_so150m2_patch16_reg1_gap_384 "
          "vit_so150m2_patch16_reg1_gap_448"),
    ),
    *_rows(
        "gamma cls ls pre -patchb -norm",
        R((1024, 23, 4096, 14), 16, eps=1e-5, pool="gap", more=ROTARY, text=
          "vit_pe_lang_large_patch14_448"),
    ),
    *_rows(
        "gamma cls reg ls -qkvb -pos",
        R((384, 12, 1536, 16), 6, eps=1e-5, pool="gap", more=ROTARY, text=
          "vit_small_patch16_dinov3"),
        R((768, 12, 3072, 16), 12, eps=1e-5, pool="gap", more=ROTARY, text=
          "vit_base_patch16_dinov3"),
        R((1024, 24, 4096, 16), 16, eps=1e-5, pool="gap", more=ROTARY, text=
          "vit_large_patch16_dinov3"),
    ),
    *_rows(
        "gamma reg ls fc -qkvb -norm -pos",
        R((512, 20, 2048, 16), 8, pool="gap", more=ROTARY, text=
          "vit_mediumd_patch16_rope_reg1_gap_256"),
    ),
)  # fmt: skip
