//! Torch tensors, read through the DLPack C exchange API (torch ≥ 2.10): about 50 ns a tensor,
//! where `tensor.numpy()` takes about 600.
//!
//! The table of C functions hangs on the type `torch.Tensor`. Its answer is used only for what it
//! describes fully: it also succeeds for tensors whose memory is not their value. Therefore
//! - the type is exactly `torch.Tensor` (fake tensors and other subclasses go the slow way),
//! - integers and bools only: a floating-point tensor can be a negative-bit view
//!   (`z.conj().imag`), a complex one a conjugate view; the API tells neither. (An integer tensor
//!   gets that bit by torch's private `_neg_view` alone.)
//! - memory that the CPU can read, one dimension (where the layout unbatches also `[1, L]`), and an
//!   address unless there is no value.
//!
//! Source: the header of DLPack 1.3, `dlpack.h`, and torch 2.10–2.15.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_int, c_void};

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCapsule, PyDict, PyType};
use pyo3::{ffi, intern};

use super::{Source, Strided};
use crate::cells::Element;

const CPU: i32 = 1;
/// Page-locked memory of the host; ordinary memory to the CPU.
const CUDA_HOST: i32 = 3;
const INT: u8 = 0;
const UINT: u8 = 1;
const BOOL: u8 = 6;
const CAPSULE: &CStr = c"dlpack_exchange_api";
/// The major version whose records are declared here.
const MAJOR: u32 = 1;

#[repr(C)]
struct Version {
    major: u32,
    minor: u32,
}

#[repr(C)]
struct ExchangeHeader {
    version: Version,
    previous: *const ExchangeHeader,
}

/// `DLPackExchangeAPI`; functions that are not called here are opaque.
#[repr(C)]
struct ExchangeApi {
    header: ExchangeHeader,
    managed_tensor_allocator: *const c_void,
    managed_tensor_from_py_object: *const c_void,
    managed_tensor_to_py_object: *const c_void,
    /// Fills in a view of the object; owns nothing. 0, or −1 with a Python exception set.
    tensor_from_py_object: Option<unsafe extern "C" fn(*mut c_void, *mut Tensor) -> c_int>,
    current_work_stream: *const c_void,
}

/// `DLTensor`.
#[repr(C)]
struct Tensor {
    data: *mut u8,
    device_type: i32,
    device_id: i32,
    ndim: i32,
    code: u8,
    bits: u8,
    lanes: u16,
    shape: *const i64,
    strides: *const i64,
    byte_offset: u64,
}

/// The type `torch.Tensor` and how to look into its instances.
#[derive(Debug)]
pub(super) struct Exchange {
    tensor_type: Py<PyType>,
    view: unsafe extern "C" fn(*mut c_void, *mut Tensor) -> c_int,
}

static EXCHANGE: PyOnceLock<Exchange> = PyOnceLock::new();

/// The exchange API, if torch has been imported and has one. Never imports torch.
///
/// Runs Python code, so it is asked for before the quiet phase.
pub(super) fn exchange(py: Python<'_>) -> Option<&Exchange> {
    if let Some(known) = EXCHANGE.get(py) {
        return Some(known);
    }
    let modules = py.import(intern!(py, "sys")).ok()?.getattr(intern!(py, "modules")).ok()?;
    let torch = modules.cast::<PyDict>().ok()?.get_item(intern!(py, "torch")).ok()??;
    // Absent while another thread is still importing torch: then it is looked for again next time.
    let tensor_type = torch.getattr(intern!(py, "Tensor")).ok()?.cast_into::<PyType>().ok()?;
    let found = find(tensor_type)?;
    Some(EXCHANGE.get_or_init(py, || found))
}

fn find(tensor_type: Bound<'_, PyType>) -> Option<Exchange> {
    let capsule = tensor_type.getattr(intern!(tensor_type.py(), "__dlpack_c_exchange_api__")).ok()?;
    let table = capsule.cast::<PyCapsule>().ok()?.pointer_checked(Some(CAPSULE)).ok()?;
    let mut header = table.as_ptr().cast::<ExchangeHeader>().cast_const();
    // SAFETY: a capsule of this name holds the table, or an older one behind `previous`; the header
    // comes first in every version, and tables live as long as the process (DLPack's header says so).
    // The fields of `ExchangeApi` are those of major version 1, which is checked before they are read.
    let view = unsafe {
        while !header.is_null() && (*header).version.major != MAJOR {
            header = (*header).previous;
        }
        header.cast::<ExchangeApi>().as_ref()?.tensor_from_py_object?
    };
    Some(Exchange { tensor_type: tensor_type.unbind(), view })
}

impl Exchange {
    /// Whether the object is exactly a `torch.Tensor`.
    pub(super) fn is_tensor(&self, object: &Bound<'_, PyAny>) -> bool {
        object.get_type_ptr() == self.tensor_type.as_ptr().cast()
    }

    /// The tensor's values, if they can be read as they lie. With `unbatch`, a first dimension of one is none.
    ///
    /// # Safety
    /// The object is exactly a `torch.Tensor`, and for `'a` no Python code runs and no other thread
    /// changes the tensor.
    pub(super) unsafe fn view<'a>(&self, object: &'a Bound<'_, PyAny>, unbatch: bool) -> Option<Source<'a>> {
        let mut tensor = Tensor {
            data: std::ptr::null_mut(),
            device_type: 0,
            device_id: 0,
            ndim: 0,
            code: 0,
            bits: 0,
            lanes: 0,
            shape: std::ptr::null(),
            strides: std::ptr::null(),
            byte_offset: 0,
        };
        // SAFETY: the function comes from the type of this object, and the GIL is held.
        if unsafe { (self.view)(object.as_ptr().cast(), &raw mut tensor) } != 0 {
            // A sparse or meta tensor: the slow way says what is wrong with it.
            // SAFETY: the GIL is held. Making an exception may have started a garbage collection, and
            // with it Python code: the caller reads nothing that it has viewed once a view fails.
            unsafe { ffi::PyErr_Clear() };
            return None;
        }
        let element = match (tensor.code, tensor.bits) {
            (INT, 8..=64) => Element::of_kind(b'i', usize::from(tensor.bits / 8))?,
            (UINT, 8..=64) => Element::of_kind(b'u', usize::from(tensor.bits / 8))?,
            (BOOL, 8) => Element::Bool,
            _ => return None,
        };
        let dimensions = if unbatch { 1..=2 } else { 1..=1 };
        let readable = matches!(tensor.device_type, CPU | CUDA_HOST) && tensor.lanes == 1;
        if !readable || !dimensions.contains(&tensor.ndim) || tensor.shape.is_null() || tensor.strides.is_null() {
            return None;
        }
        let last = usize::from(tensor.ndim == 2);
        // SAFETY: both have `ndim` entries, which is `last` + 1, and belong to the tensor.
        let (first, len, stride) = unsafe {
            let (shape, strides) = (tensor.shape.add(last), tensor.strides.add(last));
            (*tensor.shape, usize::try_from(*shape).ok()?, isize::try_from(*strides).ok()?)
        };
        if last == 1 && first != 1 {
            return None;
        }
        if tensor.data.is_null() && len > 0 {
            return None;
        }
        let start = tensor.data.cast_const().wrapping_add(usize::try_from(tensor.byte_offset).ok()?);
        let stride = stride.checked_mul(isize::try_from(element.size()).ok()?)?;
        // SAFETY: every element of a CPU tensor of an integer dtype lies where shape and strides say,
        // unless its storage was resized below its shape, which torch does not look for either and
        // SECURITY.md makes the caller's duty; the caller guarantees that it stays there.
        Some(unsafe { Strided::new(start, len, stride, element, false) }.into_source())
    }
}
