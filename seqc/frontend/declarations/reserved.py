"""Names that a spec can't give, because they mean something where the generated layer lives."""

from __future__ import annotations

from seqc.frontend.declarations.functions import BUILTIN
from seqc.frontend.messages.limits import MAX_NAME
from seqc.frontend.text.scan import STATEMENT_WORDS
from seqc.ir.maps import MAP_FUNCTIONS
from seqc.ir.ops import TORCH_HELPERS


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: The public attributes of torch.nn.Module (a test compares them with torch's own).
MODULE_ATTRIBUTES = _words(
    """
    T_destination add_module apply bfloat16 buffers call_super_init children compile cpu cuda
    double dump_patches eval extra_repr float forward get_buffer get_extra_state get_parameter
    get_submodule half ipu load_state_dict modules mtia named_buffers named_children
    named_modules named_parameters parameters register_backward_hook register_buffer
    register_forward_hook register_forward_pre_hook register_full_backward_hook
    register_full_backward_pre_hook register_load_state_dict_post_hook
    register_load_state_dict_pre_hook register_module register_parameter
    register_state_dict_post_hook register_state_dict_pre_hook requires_grad_ set_extra_state
    set_submodule share_memory state_dict to to_empty train training type xpu zero_grad
    """
)

#: What a built layer has of its own, and the arguments of its methods.
LAYER_ATTRIBUTES = _words(
    """
    backend cls cu_seqlens device dtype penalties reset resets self seqc solution state states
    step torch
    SPEC SIZES ALIASES AXES CHOICES DOMAINS HYPERS INPUTS STATES OUTPUTS FIELDS FROM_ZEROS KERNELS
    LOOPS PARALLEL FEEDBACK NEWTON STREAMS SUMS State DEFAULT_BACKEND kernel_calls reset_parameters
    """
)

#: What a generated module has at its top beside its layers (a test compares them with one).
MODULE_NAMES = (
    TORCH_HELPERS
    | MAP_FUNCTIONS.keys()
    | _words(
        """
    CPP_ENTRIES CPP_HEADERS CUDA_ENTRIES CUDA_HEADERS
    Field FusedKernel KernelSpec Layer NamedTuple Tensor WARNINGS
    annotations begin bias_of cast centred_windows choose contract full guard
    keep_mask lagged last_step math numeric pick push
    remember shift split spread_axes spread_to stacked started state_dtype
    storage_dtype torch turn_rows weight_of windows SolvedBySteps SolvedByNewton
    fed_exact fed_stationary fed_truncated
    """
    )
)

PYTHON_KEYWORDS = _words(
    """
    False None True and as assert async await break class continue def del elif else except
    finally for from global if import in is lambda nonlocal not or pass raise return try while
    with yield
    """
)

CPP_KEYWORDS = _words(
    """
    alignas alignof and_eq asm auto bitand bitor bool case catch char char8_t char16_t char32_t
    co_await co_return co_yield compl concept const const_cast consteval constexpr constinit
    decltype default delete do dynamic_cast enum explicit export extern false friend goto inline
    int long mutable namespace new noexcept not_eq nullptr operator or_eq private protected
    public register reinterpret_cast requires restrict short signed sizeof static static_assert
    static_cast struct switch template this thread_local throw true typedef typeid typename
    typeof union unsigned using virtual void volatile wchar_t xor xor_eq NULL NAN INFINITY main
    std
    """
)

CUDA_WORDS = _words(
    """
    blockDim blockIdx dim3 gridDim threadIdx warpSize float2 float3 float4 double2 half2
    bfloat162 uint2 uint3 uint4 int2 int3 int4
    """
)


def refusal(name: str, kind: str) -> str | None:
    """Why something of this kind can't have this name; None where it can.

    Sizes may have the name of a statement (``size input, output``): they never begin a
    line.  Layers aren't attributes of a module, but name a class in every target.
    """
    if name == "t":
        return "`t` is the index of time"
    if len(name) > MAX_NAME:
        return f"a name has at most {MAX_NAME} characters"
    if not name.isascii():
        return "names are written in ASCII letters, digits and `_`"
    if name.startswith("_") or "__" in name:
        return "names that begin with `_` or hold `__` are kept for generated code"
    if name in PYTHON_KEYWORDS:
        return f"`{name}` is a keyword of Python"
    if name in CPP_KEYWORDS:
        return f"`{name}` is a keyword of C++"
    if name in CUDA_WORDS:
        return f"`{name}` is a word of CUDA"
    if kind == "layer":
        if name in MODULE_NAMES:
            return f"`{name}` is a word of the generated module's own"
    else:
        if name in LAYER_ATTRIBUTES:
            return f"`{name}` is a word of the built layer's own"
        if name in MODULE_ATTRIBUTES:
            return f"`{name}` is an attribute of every torch.nn.Module"
    if kind not in ("layer", "size"):
        if name in STATEMENT_WORDS:
            return f"`{name}` begins a statement"
        if name in BUILTIN:
            return f"`{name}` is a function of the language"
    return None
