//! Numbers, lengths and values out of bytes.

use _core::cells::Element;
use _core::layout::{Length, Truncation};
use arbitrary::{Arbitrary, Result, Unstructured};

use crate::memory::{ELEMENTS, Form, Stored};

/// What is left of the bytes.
pub(crate) type Bytes<'a> = Unstructured<'a>;

/// Anything that the bytes can be.
pub(crate) fn any<T: for<'a> Arbitrary<'a>>(u: &mut Bytes<'_>) -> Result<T> {
    u.arbitrary()
}

/// Small, or just where arithmetic ends.
pub(crate) fn any_size(u: &mut Bytes<'_>) -> Result<usize> {
    const EDGES: [usize; 12] = [
        usize::MAX,
        usize::MAX - 1,
        usize::MAX / 2,
        usize::MAX / 2 - 1,
        usize::MAX / 2 - 4096,
        usize::MAX / 8,
        1 << 62,
        3 << 61,
        1 << 32,
        (1 << 32) - 1,
        1 << 31,
        (1 << 31) - 1,
    ];
    Ok(match u.int_in_range(0..=5_u8)? {
        0..=2 => u.int_in_range(0..=20)?,
        3 => u.int_in_range(0..=70_000)?,
        4 => *u.choose(&EDGES)?,
        _ => u.arbitrary()?,
    })
}

/// Likewise, of either sign.
pub(crate) fn any_number(u: &mut Bytes<'_>) -> Result<i64> {
    const EDGES: [i64; 9] = [
        i64::MAX,
        i64::MAX - 4,
        i64::MIN,
        i64::MIN + 1,
        i32::MAX as i64,
        i32::MAX as i64 - 3,
        i32::MIN as i64,
        i32::MIN as i64 - 1,
        1 << 53,
    ];
    Ok(match u.int_in_range(0..=3_u8)? {
        0 | 1 => u.int_in_range(-101..=20)?,
        2 => *u.choose(&EDGES)?,
        _ => u.arbitrary()?,
    })
}

/// Something of `one`, else of `other`: mostly the first.
pub(crate) fn seldom<T>(u: &mut Bytes<'_>, usual: T, other: impl FnOnce(&mut Bytes<'_>) -> Result<T>) -> Result<T> {
    if u.ratio(1, 4)? { other(u) } else { Ok(usual) }
}

pub(crate) fn maybe<T>(u: &mut Bytes<'_>, value: impl FnOnce(&mut Bytes<'_>) -> Result<T>) -> Result<Option<T>> {
    if u.arbitrary()? { value(u).map(Some) } else { Ok(None) }
}

pub(crate) fn several<T>(
    u: &mut Bytes<'_>,
    count: std::ops::RangeInclusive<usize>,
    mut value: impl FnMut(&mut Bytes<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    (0..u.int_in_range(count)?).map(|_| value(u)).collect()
}

/// How long rows are; `size` gives its numbers.
pub(crate) fn any_length(u: &mut Bytes<'_>, mut size: impl FnMut(&mut Bytes<'_>) -> Result<usize>) -> Result<Length> {
    let mut buckets = if u.ratio(1, 4)? { several(u, 1..=4, &mut size)? } else { Vec::new() };
    buckets.sort_unstable();
    Ok(Length {
        max_length: maybe(u, &mut size)?,
        truncation: *u.choose(&[Truncation::KeepStart, Truncation::KeepEnd, Truncation::Error])?,
        min_length: seldom(u, 0, &mut size)?,
        multiple_of: seldom(u, 1, &mut size)?.max(1),
        buckets,
        row_multiple_of: seldom(u, 1, &mut size)?.max(1),
    })
}

pub(crate) fn any_form(u: &mut Bytes<'_>, elements: &[Element]) -> Result<Form> {
    let plain = Form::plain(*u.choose(elements)?);
    if u.arbitrary()? {
        return Ok(plain);
    }
    let stride = plain.stride + u.int_in_range(0..=8_isize)?;
    let stride = if u.arbitrary()? { -stride } else { stride };
    Ok(Form { stride, misaligned: u.int_in_range(0..=7)?, swapped: u.arbitrary()?, ..plain })
}

/// So many values of any type, which are any bits; whether they are read by the fastest source.
pub(crate) fn any_stored(u: &mut Bytes<'_>, len: usize) -> Result<(Stored, bool)> {
    let form = any_form(u, &ELEMENTS)?;
    let any: [u8; 8] = u.arbitrary()?;
    let pattern = *u.choose(&[[0; 8], [1, 0, 0, 0, 0, 0, 0, 0], [0xFF; 8], any])?;
    let step: u8 = u.arbitrary()?;
    let byte = |place: usize| pattern[place % 8].wrapping_add(place.to_le_bytes()[0].wrapping_mul(step));
    Ok((Stored::new(len, form, byte), u.arbitrary()?))
}
