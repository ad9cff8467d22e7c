"""Sizes of the Swin-v2 encoders, and the settings of each convention.

Attributes of `swin_v2.SwinV2`, by convention and name.
"""

# Heads have 32 channels, 16 in nano. Windows, shifts and drop path of `base` and
# `large` are MIM-Depth's for KITTI: at its 352 x 352 crop they tile exactly and stages
# 3 and 4 are global. `nano` is ours: at a quarter of KITTI's size (22 x 44 tokens) its
# windows tile with little padding. Its residual init is that which trained fastest from
# scratch; 1e-5 and 0.01 are close behind, 1.0 (a plain LayerNorm) is far slower.
_REFERENCE = {
    "window_size": (22, 22, 22, 11),
    "pretrained_window_size": (12, 12, 12, 6),
    "use_shift": (True, True, False, False),
}
MIM_DEPTH = {
    "nano": {
        "embed_dim": 48,
        "depths": (2, 2, 2, 2),
        "num_heads": (3, 6, 12, 24),
        "window_size": (11, 11, 6, 6),
        "pretrained_window_size": (11, 11, 6, 6),
        "use_shift": (True, True, True, False),
        "drop_path": 0.0,
        "residual_init": 0.1,
    },
    "tiny": {
        "embed_dim": 96,
        "depths": (2, 2, 6, 2),
        "num_heads": (3, 6, 12, 24),
        "drop_path": 0.2,
        **_REFERENCE,
    },
    "small": {
        "embed_dim": 96,
        "depths": (2, 2, 18, 2),
        "num_heads": (3, 6, 12, 24),
        "drop_path": 0.3,
        **_REFERENCE,
    },
    "base": {
        "embed_dim": 128,
        "depths": (2, 2, 18, 2),
        "num_heads": (4, 8, 16, 32),
        "drop_path": 0.3,
        **_REFERENCE,
    },
    "large": {
        "embed_dim": 192,
        "depths": (2, 2, 18, 2),
        "num_heads": (6, 12, 24, 48),
        "drop_path": 0.5,
        **_REFERENCE,
    },
    "huge": {
        "embed_dim": 352,
        "depths": (2, 2, 18, 2),
        "num_heads": (11, 22, 44, 88),
        "drop_path": 0.5,
        **_REFERENCE,
    },
}

# The official configurations at 256 x 256: windows of 8 from scratch, and for `large`
# windows of 16 after pretraining with 12, which we give to `huge` too (no configuration
# of it is published).
_OFFICIAL = {
    "window_size": (8, 8, 8, 8),
    "pretrained_window_size": (0, 0, 0, 0),
    "use_shift": (True, True, True, True),
    "residual_init": 0.0,
}
_OFFICIAL_WIDE = {
    **_OFFICIAL,
    "window_size": (16, 16, 16, 16),
    "pretrained_window_size": (12, 12, 12, 6),
    "drop_path": 0.2,
}
OFFICIAL = {
    "nano": {**MIM_DEPTH["nano"], **_OFFICIAL},
    "tiny": {**MIM_DEPTH["tiny"], **_OFFICIAL},
    "small": {**MIM_DEPTH["small"], **_OFFICIAL},
    "base": {**MIM_DEPTH["base"], **_OFFICIAL, "drop_path": 0.5},
    "large": {**MIM_DEPTH["large"], **_OFFICIAL_WIDE},
    "huge": {**MIM_DEPTH["huge"], **_OFFICIAL_WIDE},
}

BY_CONVENTION = {"mim_depth": MIM_DEPTH, "official": OFFICIAL}
