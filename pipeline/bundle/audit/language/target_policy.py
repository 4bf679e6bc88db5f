"""Which classes and functions bundles may name: an allow-list by place of definition, the longest prefix decides."""

import builtins
import functools
import sys
from collections.abc import Collection
from typing import Literal, NamedTuple

from pipeline.bundle.audit.finding import shorten
from pipeline.bundle.audit.language.installed_names import (
    FOLLOWED,
    Place,
    find_module,
    list_short_names,
    locate_statically,
)
from pipeline.bundle.audit.word_list import read_words

Rule = Literal["allow", "review", "deny"]

# Rule: prefixes of the names where things are defined. What no prefix covers is denied.
_RULES: dict[Rule, str] = {
    "allow": """
        monai.transforms monai.losses monai.metrics monai.inferers monai.handlers monai.engines monai.data
        monai.optimizers monai.visualize monai.networks.nets monai.networks.blocks monai.networks.layers
        monai.networks.schedulers monai.networks.utils.eval_mode monai.networks.utils.train_mode
        monai.networks.utils.one_hot monai.networks.utils.predict_segmentation
        monai.networks.utils.normalize_transform monai.networks.utils.to_norm_affine
        monai.networks.utils.normal_init monai.networks.utils.icnr_init monai.networks.utils.pixelshuffle
        monai.networks.utils.copy_model_state monai.networks.utils.get_state_dict monai.networks.utils.freeze_layers
        monai.apps.detection monai.apps.deepgrow monai.apps.deepedit monai.apps.pathology monai.apps.reconstruction
        monai.apps.vista3d monai.apps.nuclick monai.apps.generation monai.config.deviceconfig.print_config
        monai.config.type_definitions monai.utils.misc.set_determinism monai.utils.misc.ensure_tuple
        monai.utils.misc.ensure_tuple_size monai.utils.misc.ensure_tuple_rep monai.utils.misc.first
        monai.utils.misc.issequenceiterable monai.utils.misc.zip_with monai.utils.misc.star_zip_with
        monai.utils.misc.fall_back_tuple monai.utils.misc.is_scalar monai.utils.misc.is_scalar_tensor
        monai.utils.misc.progress_bar monai.utils.misc.get_seed monai.utils.misc.MAX_SEED
        monai.utils.misc.ImageMetaKey monai.utils.enums monai.utils.type_conversion monai.utils.dist
        monai.utils.ordering ignite torch.nn torch.optim torch.utils.data torch.utils.tensorboard torch.amp
        torch.cuda.amp torch.autocast torch.device torch.dtype torch.Size torch.Tensor torch.Generator torch.tensor
        torch.as_tensor torch.from_numpy torch.zeros torch.ones torch.full torch.empty torch.eye torch.arange
        torch.linspace torch.logspace torch.zeros_like torch.ones_like torch.full_like torch.rand torch.randn
        torch.randint torch.randperm torch.stack torch.cat torch.concat torch.where torch.argmax torch.argmin
        torch.argsort torch.sort torch.topk torch.sigmoid torch.softmax torch.log_softmax torch.relu torch.tanh
        torch.exp torch.log torch.sqrt torch.abs torch.sum torch.mean torch.std torch.var torch.median torch.max
        torch.min torch.amax torch.amin torch.clamp torch.round torch.floor torch.ceil torch.pow torch.square
        torch.flip torch.permute torch.squeeze torch.unsqueeze torch.reshape torch.unique torch.isnan torch.isfinite
        torch.any torch.all torch.equal torch.numel torch.is_tensor torch.no_grad torch.inference_mode
        torch.enable_grad torch.set_grad_enabled torch.manual_seed torch.get_default_dtype
        torch.set_float32_matmul_precision torch.set_num_threads torch.float torch.float16 torch.float32
        torch.float64 torch.bfloat16 torch.half torch.double torch.int torch.int8 torch.int16 torch.int32
        torch.int64 torch.uint8 torch.uint16 torch.long torch.short torch.bool torch.complex64 torch.channels_last
        torch.channels_last_3d torch.contiguous_format torch.inf torch.pi torch.nan torch.initial_seed
        torch.cuda.is_available torch.cuda.device_count torch.cuda.set_device torch.cuda.current_device
        torch.cuda.empty_cache torch.cuda.manual_seed torch.cuda.manual_seed_all torch.cuda.get_device_name
        torch.cuda.synchronize torch.backends.mps.is_available torch.distributed.init_process_group
        torch.distributed.destroy_process_group torch.distributed.is_initialized torch.distributed.is_available
        torch.distributed.get_rank torch.distributed.get_world_size torch.distributed.barrier torch.version.cuda
        torch.__version__ torch.distributed.distributed_c10d.init_process_group
        torch.distributed.distributed_c10d.destroy_process_group torch.distributed.distributed_c10d.is_initialized
        torch.distributed.distributed_c10d.get_rank torch.distributed.distributed_c10d.get_world_size
        torch.distributed.distributed_c10d.barrier monai.__version__ ignite.__version__ numpy.__version__
        pipeline.__version__ numpy.array numpy.asarray numpy.zeros numpy.ones numpy.full numpy.empty numpy.eye
        numpy.arange numpy.linspace numpy.logspace numpy.float16 numpy.float32 numpy.float64 numpy.int8 numpy.int16
        numpy.int32 numpy.int64 numpy.uint8 numpy.uint16 numpy.uint32 numpy.uint64 numpy.bool_ numpy.single
        numpy.double numpy.dtype numpy.ndarray numpy.inf numpy.nan numpy.pi numpy.e numpy.newaxis numpy.abs
        numpy.sum numpy.mean numpy.std numpy.var numpy.median numpy.max numpy.min numpy.amax numpy.amin numpy.prod
        numpy.sqrt numpy.exp numpy.log numpy.log2 numpy.log10 numpy.sin numpy.cos numpy.tan numpy.arctan2
        numpy.deg2rad numpy.rad2deg numpy.radians numpy.degrees numpy.round numpy.floor numpy.ceil numpy.clip
        numpy.where numpy.unique numpy.sort numpy.argsort numpy.argmax numpy.argmin numpy.concatenate numpy.stack
        numpy.transpose numpy.squeeze numpy.expand_dims numpy.reshape numpy.flip numpy.cumsum numpy.diff
        numpy.percentile numpy.quantile numpy.isnan numpy.isfinite numpy.any numpy.all numpy.array_equal
        numpy.allclose numpy.diag numpy.dot numpy.matmul numpy.set_printoptions numpy.linalg.norm numpy.linalg.inv
        numpy.random.seed numpy.random.RandomState numpy.random.default_rng pipeline.transforms pipeline.networks
        pipeline.losses pipeline.metrics pipeline.handlers pipeline.inferers pipeline.parallel
        pipeline.datasets.datalist pipeline.datasets.inputs pipeline.bundle.overrides.startup math.ceil math.floor
        math.sqrt math.exp math.log math.log2 math.log10 math.pi math.e math.inf math.nan math.isnan math.sin
        math.cos math.tan math.radians math.degrees math.fabs math.trunc math.gcd math.hypot collections.OrderedDict
        operator.lt operator.le operator.eq operator.ne operator.ge operator.gt operator.add operator.sub
        operator.mul operator.truediv operator.neg operator.abs operator.and_ operator.or_ operator.not_
        operator.itemgetter os.path.join os.path.basename os.path.dirname os.path.splitext os.path.split
        os.path.normpath os.sep torch.backends.cudnn.benchmark torch.backends.cudnn.deterministic
        torch.backends.cudnn.enabled torch.backends.cudnn.allow_tf32 torch.backends.cudnn.is_available
        torch.backends.cudnn.version torch.backends.cuda.matmul.allow_tf32
        """,
    "review": """
        monai.data.dataset.PersistentDataset monai.data.dataset.CacheNTransDataset monai.data.dataset.LMDBDataset
        monai.data.dataset.GDSDataset monai.data.csv_saver monai.apps.datasets monai.handlers.mlflow_handler
        monai.handlers.clearml_handlers monai.handlers.trt_handler monai.data.video_dataset
        monai.data.decathlon_datalist.create_cross_validation_datalist monai.handlers.utils.write_metrics_reports
        monai.networks.nets.resnet.get_pretrained_resnet_medicalnet monai.networks.nets.torchvision_fc
        monai.networks.nets.transchex pipeline.handlers.run.run_lock ignite.distributed.utils.spawn
        ignite.handlers.mlflow_logger ignite.handlers.wandb_logger ignite.handlers.neptune_logger
        ignite.handlers.clearml_logger ignite.handlers.polyaxon_logger ignite.handlers.visdom_logger
        torch.utils.data.datapipes torch.compile torch.jit.script torch.jit.trace numpy.vectorize
        numpy.apply_along_axis numpy.random numpy.linalg numpy.fft os.getenv os.cpu_count os.getcwd os.listdir
        os.linesep os.name glob.glob glob.iglob glob.escape pathlib.Path pathlib.PurePath pathlib.PosixPath
        json.loads json.dumps functools.partial functools.reduce copy.copy copy.deepcopy time.time time.strftime
        datetime.datetime datetime.date os.path.exists os.path.isfile os.path.isdir os.path.islink os.path.isabs
        os.path.abspath os.path.realpath os.path.expanduser os.path.expandvars os.path.getsize os.path.relpath
        os.path.commonpath os.environ.get itertools.chain itertools.product itertools.islice itertools.accumulate
        itertools.zip_longest itertools.combinations itertools.permutations itertools.groupby itertools.count
        itertools.repeat itertools.cycle re.sub re.match re.search re.findall re.split re.compile re.escape
        re.fullmatch random.choice random.random random.randint random.seed random.shuffle random.sample
        random.uniform
        """,
    "deny": """
        monai.apps.utils monai.apps.detection.utils.detector_utils.torch monai.data.utils.pickle_hashing
        monai.data.utils.pickle_operations monai.data.nvimgcodec_pydicom_plugin monai.losses.perceptual
        monai.data.torchscript_utils monai.transforms.utils_create_transform_ims
        pipeline.handlers.checkpoints.atomic_save pipeline.parallel.agreement.record_failure
        monai.networks.nets.flexible_unet.FlexUNetEncoderRegister
        monai.networks.nets.flexible_unet.FLEXUNET_BACKBONE monai.apps.pathology.losses.hovernet_loss.torch
        ignite.distributed.launcher ignite.distributed.comp_models
        ignite.handlers.checkpoint.Checkpoint.load_objects torch.nn.attention torch.nn.utils._deprecation_utils
        torch.nn.modules.module.Module.compile torch.utils.data.datapipes.utils
        pipeline.networks.transunet.vit_weights pipeline.datasets.download
        """,
}
#: What may be read, but has parts that change something.
_EXACT = frozenset({"os.environ"})
_PREFIXES: dict[str, Rule] = {prefix: rule for rule, text in _RULES.items() for prefix in text.split()}
#: Python's own functions and types that cannot reach anything else.
HARMLESS = read_words("""
    abs all any bool complex dict divmod enumerate float frozenset int isinstance len list max min pow range reversed
    round set slice sorted str sum tuple zip
    """)
#: Modules of Python that no argument of a bundle needs to name.
STANDARD = frozenset(sys.stdlib_module_names) | {"builtins"}


class Verdict(NamedTuple):
    """What the audit says about a name."""

    code: str  #: of the finding; "" if the name is allowed
    why: str = ""


ALLOWED = Verdict("")


def find_rule(name: str) -> Rule:
    """Return the rule for the name of a definition.

    Example:
        >>> find_rule("monai.losses.dice.DiceLoss"), find_rule("monai.losses.perceptual"), find_rule("os.system")
        ('allow', 'deny', 'deny')
    """
    parts = name.split(".")
    prefixes = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((_PREFIXES[prefix] for prefix in prefixes if prefix in _PREFIXES), "deny")


def judge_target(name: str, own_modules: Collection[str] = ()) -> Verdict:
    """Judge what ``_target_`` names, as MONAI would find it: first MONAI's short names, then a dotted path.

    Args:
        name: the text of ``_target_``.
        own_modules: top-level modules and packages in the bundle.

    Example:
        >>> judge_target("LoadImaged").code, judge_target("monai.utils.misc.subprocess.Popen").code
        ('', 'target-denied')
    """
    if "." in name:
        return judge_name(name, own_modules)
    if hasattr(builtins, name):
        return ALLOWED if name in HARMLESS else Verdict("target-denied", f"{name} is Python's own")
    modules = list_short_names().get(name, ())
    if not modules:
        return Verdict("target-unknown", f"{shorten(name)} is no class or function of MONAI")
    verdicts = [judge_name(f"{module}.{name}") for module in modules]
    return max(verdicts, key=_rank)


@functools.cache
def _rank_codes() -> dict[str, int]:
    return {"": 0, "target-review": 1, "bundle-code": 1}


def _rank(verdict: Verdict) -> int:
    return _rank_codes().get(verdict.code, 2)


def judge_name(name: str, own_modules: Collection[str] = (), *, value: bool = False) -> Verdict:
    """Judge a dotted name by every place to which it can lead.

    Args:
        name: as written.
        own_modules: top-level modules and packages in the bundle.
        value: attributes of classes are allowed, because the name is not called.
    """
    parts = name.split(".")
    if not all(part.isidentifier() for part in parts):
        return Verdict("target-unknown", f"{shorten(name)} is not a dotted name")
    if any(part.startswith("_") for part in parts) and name not in _PREFIXES:
        return Verdict("target-denied", f"{shorten(name)} leads into the inside of a package")
    if parts[0] in own_modules and parts[0] not in FOLLOWED:
        return Verdict("bundle-code", f"{name} comes with the bundle")
    if parts[0] not in FOLLOWED:
        return _judge_outside(name, name)
    # Compiled, so that no source says where it is defined; or a version.
    compiled = parts[0] in ("torch", "numpy") and find_module(name) is None
    if name in _PREFIXES and (compiled or name.endswith("__version__")):
        return _apply(find_rule(name), name, name)
    places = locate_statically(name)
    verdicts = [_judge_place(name, place, value=value) for place in places]
    return max(verdicts, key=_rank)


def _judge_place(name: str, place: Place, *, value: bool) -> Verdict:
    if place.kind == "outside":
        return _judge_outside(name, place.name)
    if place.kind == "module":
        return Verdict("target-module", f"{name} is a module")
    if place.kind == "missing":
        return Verdict("target-unknown", f"the installed {name.partition('.')[0]} has no {name}")
    if place.kind == "attribute" and not value:
        return Verdict("target-denied", f"{name} is an attribute of an object")
    value = value and place.kind == "member"
    verdict = _apply(find_rule(place.name), name, place.name)
    if verdict.code or value or place.kind in ("class", "function"):
        return verdict
    return Verdict("target-review", f"{name} is not a class or function of its own")


def _judge_outside(name: str, place: str) -> Verdict:
    rule: Rule = "review" if place in _EXACT else find_rule(place)
    if rule != "deny":
        return _apply(rule, name, place)
    # From within an allowed package it is a way around the list, not a missing entry in it.
    hidden = name != place or place.partition(".")[0] in STANDARD
    return Verdict("target-denied" if hidden else "target-outside", _describe(name, place))


def _apply(rule: Rule, name: str, place: str) -> Verdict:
    if rule == "allow":
        return ALLOWED
    return Verdict("target-review" if rule == "review" else "target-denied", _describe(name, place))


def _describe(name: str, place: str) -> str:
    return name if name == place else f"{name} is {place}"
