"""Recipes shared by several configs: the runs of the papers, and small runs.

A recipe changes a config in place; the config file sets the keys of its data set.
"""

from collections.abc import Callable

from ml_collections import ConfigDict

Recipe = Callable[[ConfigDict], None]


def pick(variants: dict[str, Callable], name: str, *, file: str) -> Callable:
    """The variant of a config file; ValueError names the known ones."""
    if name not in variants:
        raise ValueError(f"{file} has variants {', '.join(variants)}; got '{name}'")
    return variants[name]


def for_two_cores(config: ConfigDict, *, input_scale: float) -> None:
    """A small network from scratch, which two CPU cores train in minutes."""
    config.steps = 300
    config.batch_size = 4
    config.model.name = "swin_v2_nano"
    config.model.input_scale = input_scale
    config.optimizer.layer_decay = 1.0  # from scratch: no layer-wise decay
    config.optimizer.peak_at = 0.4
    config.checkpoint.every_steps = 100
    config.data.cut_depth = 0.0  # too strong for a few hundred steps


def supervised(
    *, frames: int, epochs: int, mim_crop: tuple[int, int]
) -> dict[str, Recipe]:
    """The supervised runs on a data set of `frames` training frames, by variant.

    AMLR (Yu & Heo 2023) for `epochs`, its two comparisons of Table 4, MIM-Depth (Xie
    et al. 2023), on which it builds, and GLPDepth (Kim et al. 2022) with AMLR.
    """

    def large(config: ConfigDict) -> None:
        config.model.name = "swin_v2_large"
        config.optimizer.layer_decay = 0.85  # MIM-Depth's for large
        config.batch_size = 6  # AMLR, sec. IV-A
        _count_epochs(config, frames, epochs)

    def silog(config: ConfigDict) -> None:
        large(config)
        only_silog(config)

    def lee_kim(config: ConfigDict) -> None:
        large(config)
        # On the two losses, as Table 4 is read here; four updates per epoch.
        config.rebalance.rule = "lee_kim"

    def mim_depth(config: ConfigDict) -> None:
        large(config)
        only_silog(config)
        config.data.crop = mim_crop
        config.model.decoder_channels = (32, 32, 32)
        config.model.decoder_activation = "relu"
        config.batch_size = 24
        _count_epochs(config, frames, 25)

    def base(config: ConfigDict) -> None:
        large(config)
        config.model.name = "swin_v2_base"
        config.optimizer.layer_decay = 0.9  # MIM-Depth's for base

    def glpdepth(config: ConfigDict) -> None:
        # GLPDepth's optimizer is Adam without decay. AMLR does not say that it changed
        # more than the losses and their weights.
        config.model.name = "glpdepth_b4"
        config.model.window_size = None
        config.optimizer.peak = 1e-4
        config.optimizer.weight_decay = 0.0
        config.optimizer.layer_decay = 1.0
        config.batch_size = 12
        _count_epochs(config, frames, 25)

    def dinov3_base(config: ConfigDict) -> None:
        large(config)
        config.model.name = "dinov3_base_dpt"
        config.model.window_size = None
        tune_vision_transformer(config)

    recipes = (large, silog, lee_kim, mim_depth, base, glpdepth, dinov3_base)
    return {recipe.__name__: recipe for recipe in recipes}


def tune_vision_transformer(config: ConfigDict) -> None:
    """The optimizer for a vision transformer that starts from published weights.

    Depth Anything V2 fine-tunes with AdamW at 5e-5, its encoder at 5e-6, weight decay
    0.01 and a polynomial decay of power 0.9. Here 5e-5 is reached after a tenth of the
    run, and layer decay takes the place of the two rates: 6e-6 at the patches of 12
    blocks, 5e-5 in the decoder.
    """
    config.optimizer.start = 5e-6
    config.optimizer.peak = 5e-5
    config.optimizer.peak_at = 0.1
    config.optimizer.weight_decay = 0.01
    config.optimizer.layer_decay = 0.85


def _count_epochs(config: ConfigDict, frames: int, epochs: int) -> None:
    """Sets `epochs` epochs without partial batches, each with an evaluation."""
    steps = frames // config.batch_size
    config.steps = epochs * steps
    config.rebalance.every_k_steps = -(-steps // 4)  # a quarter epoch
    config.eval.every_steps = steps
    config.checkpoint.every_steps = steps


def only_silog(config: ConfigDict) -> None:
    """Without the gradient loss, so without rebalancing."""
    del config.losses["gradient"]
    config.rebalance.rule = "fixed"
    config.rebalance.every_k_steps = 1
    config.rebalance.shares = ConfigDict({"silog": 1.0})


def better_ssim(config: ConfigDict, *, views: int, epochs: int = 20) -> None:
    """Cao, Luo & Li, sec. 4: SSIM_a + MAE, Adam at 1e-4 after a warm-up, batches of 8.

    The weights are those of Tables 4 and 5. The paper does not give the weight of the
    smoothness, the drop of the learning rate, automatic masking and the depth range of
    10^-1 to 10^2; these are monodepth2's.
    """
    config.seed = 1234
    config.objective = "self_supervised"
    config.losses = ConfigDict()
    config.selfsup.kind = "ssim_a"
    config.rebalance.rule = "fixed"
    weights = dict(mae=0.4, luminance=0.5, contrast=0.5, structure=0.7, smoothness=1e-3)
    config.rebalance.weights = ConfigDict(weights)
    # For other rules: the shares of an untrained network under these weights (street).
    shares = dict(mae=0.13, luminance=0.06, contrast=0.21, structure=0.6)
    config.rebalance.shares = ConfigDict(shares | {"smoothness": 2e-4})
    config.model.name = "five_level"
    config.model.max_depth = 100.0
    config.data.kb_crop = False
    config.data.size = (192, 640)
    config.model.input_size = config.data.size  # test frames, too
    config.optimizer.schedule = "step_decay"
    config.optimizer.peak = 1e-4
    config.optimizer.warmup = 1000
    config.optimizer.weight_decay = 0.0
    config.optimizer.layer_decay = 1.0
    config.batch_size = 8
    count_views(config, views, epochs)


def gvo_flow(config: ConfigDict) -> None:
    """The flow stage of GVO: pairs of a frame and the next, Adam at 1e-4, halved once.

    It changes no weight of the depth network, so that the next stage starts from the
    same folder, and measures none.
    """
    config.objective = "optical_flow"
    config.data.offsets = (1,)
    config.data.jitter = 0.0  # the release draws one and does not use it
    config.model.name = "five_level"
    config.model.planes = 48
    config.selfsup.kind = "monodepth2"
    config.rebalance.weights = ConfigDict({"photometric": 1.0, "smoothness": 1.0})
    config.rebalance.shares = ConfigDict({"photometric": 0.95, "smoothness": 0.05})
    config.optimizer.freeze = ("encoder", "decoder")
    config.optimizer.warmup = 0
    config.optimizer.drop, config.optimizer.drop_at = 0.5, 0.75


def gvo_depth(config: ConfigDict) -> None:
    """The depth stage of GVO, with its weights; `init_from` is the flow stage."""
    gvo_flow(config)
    config.objective = "depth_from_flow"
    config.model.upsampling = "nearest"
    config.rebalance.weights = ConfigDict(
        {"ba": 0.5, "consistency": 0.5, "photometric": 0.2, "smoothness": 1e-3}
    )
    # For other rules: the shares of the first steps under these weights (street).
    config.rebalance.shares = ConfigDict(
        {"ba": 0.5, "consistency": 0.3, "photometric": 0.2, "smoothness": 1e-3}
    )
    config.optimizer.freeze = ("flow",)


def gvo_ssc(config: ConfigDict) -> None:
    """The same with SSIM_a, MAE and the sub-pixel head of Cao, Luo & Li."""
    gvo_depth(config)
    config.selfsup.kind = "ssim_a"
    config.model.upsampling = "subpixel_head"
    config.init_partly = True  # the flow stage has heads of another shape


def count_views(config: ConfigDict, views: int, epochs: int = 20) -> None:
    """Sets `epochs` epochs of views, each with a checkpoint and an evaluation."""
    steps = views // config.batch_size
    config.steps = epochs * steps
    config.eval.every_steps = config.checkpoint.every_steps = steps


def photometric(config: ConfigDict, kind: str) -> None:
    """Self-supervision by one photometric loss and the smoothness."""
    config.selfsup.kind = kind
    config.rebalance.weights = ConfigDict({"photometric": 1.0, "smoothness": 1e-3})
    config.rebalance.shares = ConfigDict({"photometric": 1.0, "smoothness": 2e-4})


def rebalanced(config: ConfigDict, *, every: int = 100) -> None:
    """AMLR's rule on the parts of SSIM_a, with a timestep of `every` steps.

    The smoothness is held: it is 0 for a flat depth, and a rule with target shares
    raises the weight of a loss that falls to 0.
    """
    config.rebalance.held = ConfigDict({"smoothness": 1e-3})
    config.rebalance.rule = "log_amlr"
    config.rebalance.every_k_steps = every


def video_variants(*, rebalanced_every: int = 100) -> dict[str, Recipe]:
    """The comparisons of Cao, Luo & Li, as changes of `better_ssim`, by variant."""

    def ssim_a(config: ConfigDict) -> None:
        """The recipe itself."""

    def ssc(config: ConfigDict) -> None:
        config.model.name = "five_level"
        config.model.upsampling = "subpixel_head"

    def ssim_m(config: ConfigDict) -> None:
        photometric(config, "ssim_m")
        config.selfsup.gamma = 2.0

    def baseline(config: ConfigDict) -> None:
        photometric(config, "ssim_m")

    def monodepth2(config: ConfigDict) -> None:
        photometric(config, "monodepth2")
        config.model.name = "monodepth2"
        config.data.camera = "monodepth2"
        config.optimizer.warmup = 0

    def amlr(config: ConfigDict) -> None:
        rebalanced(config, every=rebalanced_every)

    recipes = (ssim_a, ssc, ssim_m, baseline, monodepth2, amlr)
    return {recipe.__name__: recipe for recipe in recipes}


def video_for_two_cores(config: ConfigDict) -> None:
    """Small images from scratch, which two CPU cores train on in minutes."""
    config.model.name = "monodepth2"
    config.data.size = config.model.input_size = (64, 224)
    config.batch_size = 4
    config.steps = 400
    config.eval.every_steps = 0
    config.checkpoint.every_steps = 100
    config.optimizer.peak = 5e-4
    config.optimizer.warmup = 50
