//! NumPy arrays of one dimension (where the layout unbatches also `[1, L]`), as they lie: any integer
//! or bool dtype, float32 or float64, any stride, alignment and byte order, read-only or not.
#![allow(unsafe_code)]

use ::numpy::{PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::prelude::*;

use super::{Source, Strided};
use crate::cells::Element;

/// Where the numbers of registered dtypes begin, in NumPy's C interface. (Those of the newer kind have −1.)
const NPY_USERDEF: i32 = 256;

/// The array's values, if they can be read as they lie. With `unbatch`, a first dimension of one is none.
///
/// # Safety
/// For `'a` no Python code runs and no other thread changes the array.
pub(super) unsafe fn view<'a>(array: &'a Bound<'_, PyUntypedArray>, unbatch: bool) -> Option<Source<'a>> {
    let (len, stride) = match (array.shape(), array.strides()) {
        (&[len], &[stride]) => (len, stride),
        (&[1, len], &[_, stride]) if unbatch => (len, stride),
        _ => return None,
    };
    let dtype = array.dtype();
    // A dtype that somebody registered may call itself an integer, and be more than its bytes.
    if !(0..NPY_USERDEF).contains(&dtype.num()) {
        return None;
    }
    let element = Element::of_kind(dtype.kind(), dtype.itemsize())?;
    let swapped = dtype.is_native_byteorder() == Some(false);
    // SAFETY: the object is an array, so its C record is complete.
    let start = unsafe { (*array.as_array_ptr()).fields.data }.cast::<u8>().cast_const();
    // SAFETY: NumPy guarantees that every element lies where shape and strides say, and that a plain
    // number is nothing but its bytes; the caller guarantees that it stays there.
    Some(unsafe { Strided::new(start, len, stride, element, swapped) }.into_source())
}
