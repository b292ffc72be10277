//! Arrays: what the C records say, checked before it is read.
//!
//! A record has no lengths of buffers, so that a producer whose buffers are shorter than it says cannot be found
//! out: that is the contract of [`super::RecordBatch::new`]. All else is looked at: lengths and offsets that are
//! negative or beyond the parent's, offsets that go backwards or past the child, buffers that are not there, numbers
//! of buffers, children and nulls that do not fit the type.
#![allow(unsafe_code)]

use std::ops::Range;
use std::slice;

use super::Broken;
use super::abi::ArrowArray;
use super::schema::{Field, Kind, Offsets};
use crate::cells::{Element, Value, with_values};
use crate::error::Number;
use crate::source::{Bits, Source, Strided};

/// Some values of an array, side by side: an address, which says nothing of how long it is good.
#[derive(Clone, Copy, Debug)]
pub enum Run {
    /// Whole bytes, at any address.
    Values {
        /// Of the first value.
        start: *const u8,
        /// Number of values.
        len: usize,
        /// Their type.
        element: Element,
    },
    /// Bools, a bit each.
    Bits {
        /// Of the byte that bits are counted from.
        start: *const u8,
        /// The first bit.
        first: usize,
        /// Number of bools.
        len: usize,
    },
}

impl Run {
    /// The values, to be read.
    ///
    /// # Safety
    /// An [`Array`] has made it, and for `'a` the batch that they are of is alive.
    #[must_use]
    pub unsafe fn source<'a>(self) -> Source<'a> {
        // SAFETY: by contract: as many values are there, and whoever has the batch does not change them.
        unsafe {
            match self {
                Self::Values { start, len, element } => {
                    Strided::new(start, len, element.size().cast_signed(), element, false).into_source()
                }
                Self::Bits { start, first, len } => Source::Bits(Bits::new(start, first, len)),
            }
        }
    }
}

/// An array, checked against its field. Rows are counted from its offset on.
#[derive(Clone, Copy, Debug)]
pub struct Array<'a> {
    /// Its type.
    pub(crate) field: &'a Field,
    raw: &'a ArrowArray,
    offset: usize,
    /// Number of rows.
    pub(crate) len: usize,
    /// A bit for each row, from row 0 of the buffers on; none where no row is null.
    validity: Option<*const u8>,
}

const BEYOND: Broken = Broken("it has more values than memory");
const BACKWARDS: Broken = Broken("its offsets go backwards");

impl<'a> Array<'a> {
    /// Its type.
    #[must_use]
    pub fn field(&self) -> &'a Field {
        self.field
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.len
    }

    /// Looks at a record.
    pub(super) fn new(field: &'a Field, raw: &'a ArrowArray) -> Result<Self, Broken> {
        let length = |length| usize::try_from(length).map_err(|_| Broken("its length or offset is negative"));
        let (len, offset) = (length(raw.length)?, length(raw.offset)?);
        let end = offset.checked_add(len).filter(|&end| isize::try_from(end).is_ok()).ok_or(BEYOND)?;
        if raw.release.is_none() {
            return Err(Broken("an array of it was released"));
        }
        let buffers = match field.kind {
            Kind::Null | Kind::Other => None, // older producers have one of nulls; of other types nothing is read
            Kind::Struct | Kind::FixedSizeList(_) => Some(1..=1),
            Kind::Bool | Kind::Number(_) | Kind::Half | Kind::List(_) | Kind::Dictionary(_) => Some(2..=2),
            Kind::Text(..) => Some(3..=3),
            Kind::View(_) => Some(3..=i64::MAX),
        };
        if buffers.as_ref().is_some_and(|buffers| !buffers.contains(&raw.n_buffers)) {
            return Err(Broken("it has another number of buffers than its type"));
        }
        if buffers.is_some() && raw.buffers.is_null() {
            return Err(Broken("its buffers are at NULL"));
        }
        if usize::try_from(raw.n_children) != Ok(field.children.len()) {
            return Err(Broken("it has another number of children than its type"));
        }
        if raw.n_children > 0 && raw.children.is_null() {
            return Err(Broken("its children are at NULL"));
        }
        let mut array = Self { field, raw, offset, len, validity: None };
        if buffers.is_some() {
            array.validity = array.buffer(0);
        }
        // What is not known (−1) or wrong of the bits is not relied on: they are looked at.
        if !(-1..=raw.length).contains(&raw.null_count) {
            return Err(Broken("it has more nulls than rows"));
        }
        if raw.null_count > 0 && buffers.is_some() && array.validity.is_none() {
            return Err(Broken("it has nulls, but does not say where"));
        }
        array.check_buffers(end)?;
        Ok(array)
    }

    /// An array that has been looked at before, and where its rows are.
    pub(super) fn known(field: &'a Field, raw: &'a ArrowArray, offset: usize, len: usize) -> Self {
        let mut array = Self { field, raw, offset, len, validity: None };
        array.validity = array.buffer(0);
        array
    }

    /// Where its rows are: its offset, and their number.
    pub(super) fn extent(&self) -> (usize, usize) {
        (self.offset, self.len)
    }

    /// Whether what its type demands for `end` rows is there.
    fn check_buffers(&self, end: usize) -> Result<(), Broken> {
        let bytes = match self.field.kind {
            Kind::Null | Kind::Other => return Ok(()),
            Kind::Struct | Kind::FixedSizeList(_) => {
                let size = if let Kind::FixedSizeList(size) = self.field.kind { size } else { 1 };
                let items = end.checked_mul(size).ok_or(BEYOND)?;
                for index in 0..self.field.children.len() {
                    if self.raw_child(index)?.length < i64::try_from(items).map_err(|_| BEYOND)? {
                        return Err(Broken("a child has fewer rows than it"));
                    }
                }
                return Ok(());
            }
            Kind::Bool => end.div_ceil(8),
            Kind::Number(element) | Kind::Dictionary(element) => end.checked_mul(element.size()).ok_or(BEYOND)?,
            Kind::Half => end.checked_mul(2).ok_or(BEYOND)?,
            Kind::List(offsets) | Kind::Text(offsets, _) => {
                end.checked_add(1).and_then(|end| end.checked_mul(offsets.size())).ok_or(BEYOND)?
            }
            Kind::View(_) => end.checked_mul(VIEW).ok_or(BEYOND)?,
        };
        if isize::try_from(bytes).is_err() {
            return Err(BEYOND);
        }
        if self.len > 0 && self.buffer(1).is_none() {
            return Err(Broken("it has rows, but their buffer is at NULL"));
        }
        Ok(())
    }

    /// A buffer of those that its type has; none where it is at NULL.
    fn buffer(&self, index: usize) -> Option<*const u8> {
        // SAFETY: the number of buffers has been compared with that of the type.
        let buffer = unsafe { *self.raw.buffers.add(index) }.cast::<u8>();
        (!buffer.is_null()).then_some(buffer)
    }

    fn raw_child(&self, index: usize) -> Result<&'a ArrowArray, Broken> {
        assert!(index < self.field.children.len(), "a child of the type");
        // SAFETY: the array has as many children as its type; by the contract of `RecordBatch::new` they are arrays.
        unsafe { (*self.raw.children.add(index)).as_ref() }.ok_or(Broken("a child is at NULL"))
    }

    /// What lists hold, or one field of a struct: its rows are those that this one's offsets name.
    pub fn child(&self, index: usize) -> Result<Self, Broken> {
        Self::new(&self.field.children[index], self.raw_child(index)?)
    }

    /// Where the last row of the record itself ends, counted from where the buffers begin.
    fn end(&self) -> usize {
        usize::try_from(self.raw.offset + self.raw.length).unwrap_or_default() // `new` has looked at both
    }

    /// Where a row is, counted from where the buffers begin.
    fn place(&self, row: usize) -> usize {
        self.offset + row
    }

    /// One field of a struct, from the struct's own row 0 on.
    pub fn column(&self, index: usize) -> Result<Self, Broken> {
        let mut column = self.child(index)?;
        column.offset += self.offset; // `check_buffers`: it has so many rows
        column.len = self.len;
        Ok(column)
    }

    /// Whether a row is null.
    #[must_use]
    pub fn is_null(&self, row: usize) -> bool {
        self.field.kind == Kind::Null || self.first_null(row..row + 1).is_some()
    }

    /// The first null of some rows, counted from the first of them.
    ///
    /// # Panics
    /// If there are fewer rows.
    #[must_use]
    pub fn first_null(&self, rows: Range<usize>) -> Option<usize> {
        assert!(rows.start <= rows.end && rows.end <= self.len, "{rows:?} of {} rows", self.len);
        let (begin, end) = (self.offset + rows.start, self.offset + rows.end);
        let validity = self.validity?;
        if begin == end {
            return None;
        }
        // SAFETY: there is a bit for each row.
        let bytes = unsafe { slice::from_raw_parts(validity, end.div_ceil(8)) };
        let bit = |at: usize| bytes[at / 8] >> (at % 8) & 1 == 0;
        // Byte by byte where they are whole: mostly nothing is null.
        let first = begin.next_multiple_of(8).min(end);
        let last = (end / 8 * 8).max(first);
        let found = (begin..first).find(|&at| bit(at)).or_else(|| {
            let whole = bytes[first / 8..last / 8].iter().position(|&byte| byte != u8::MAX);
            let rest = whole.map_or(last, |byte| first + byte * 8);
            (rest..end).find(|&at| bit(at))
        });
        found.map(|at| at - begin)
    }

    /// The items of a list, as rows of its child.
    ///
    /// # Panics
    /// If there are fewer rows, or they are no lists.
    pub fn items(&self, row: usize) -> Result<Range<usize>, Broken> {
        assert!(row < self.len, "row {row} of {}", self.len);
        let child = self.raw_child(0)?.length;
        let range = match self.field.kind {
            Kind::FixedSizeList(size) => {
                let begin = self.place(row) * size; // `check_buffers`: neither wraps, and the child is as long
                return Ok(begin..begin + size);
            }
            Kind::List(offsets) => self.range(offsets, row)?,
            _ => unreachable!("asked of lists alone"),
        };
        if i64::try_from(range.end).is_ok_and(|end| end <= child) {
            return Ok(range);
        }
        Err(Broken("its offsets go past the end of the values"))
    }

    /// Where a row begins and ends, by the offsets.
    fn range(&self, offsets: Offsets, row: usize) -> Result<Range<usize>, Broken> {
        self.range_at(offsets, self.place(row))
    }

    /// Likewise of a row that is counted from where the buffers begin.
    fn range_at(&self, offsets: Offsets, at: usize) -> Result<Range<usize>, Broken> {
        let buffer = self.buffer(1).ok_or(Broken("it has rows, but their buffer is at NULL"))?;
        // SAFETY: there is an offset more than rows.
        let (begin, end) = unsafe {
            match offsets {
                Offsets::Narrow => (i64::from(read::<i32>(buffer, at)), i64::from(read::<i32>(buffer, at + 1))),
                Offsets::Wide => (read::<i64>(buffer, at), read::<i64>(buffer, at + 1)),
            }
        };
        match (usize::try_from(begin), usize::try_from(end)) {
            (Ok(begin), Ok(end)) if begin <= end => Ok(begin..end),
            (Ok(_), Ok(_)) => Err(BACKWARDS),
            _ => Err(Broken("an offset is negative")),
        }
    }

    /// What a row of a dictionary stands for: the values, and which of them.
    ///
    /// # Panics
    /// If there are fewer rows, or they are of another type.
    pub fn looked_up(&self, row: usize) -> Result<(Self, usize), Broken> {
        assert!(row < self.len, "row {row} of {}", self.len);
        let (Kind::Dictionary(element), Some(field)) = (self.field.kind, &self.field.dictionary) else {
            unreachable!("asked of dictionaries alone")
        };
        // SAFETY: by the contract of `RecordBatch::new` it is an array, or NULL.
        let raw = unsafe { self.raw.dictionary.as_ref() }.ok_or(Broken("it has no dictionary"))?;
        let values = Self::new(field, raw)?;
        let start = self.values((self.offset + row) * element.size(), 1);
        // SAFETY: a number of that type is there.
        let index = unsafe { Run::Values { start, len: 1, element }.source() };
        let index = match first(&index) {
            Some(Number::Int(index)) => usize::try_from(index).ok(),
            _ => None,
        };
        let index = index.filter(|&index| index < values.len);
        Ok((values, index.ok_or(Broken("a row stands for what is not in the dictionary"))?))
    }

    /// The values of some rows, if they are numbers or bools. What is null is read as it is.
    ///
    /// # Panics
    /// If there are fewer rows.
    #[must_use]
    pub fn run(&self, rows: Range<usize>) -> Option<Run> {
        assert!(rows.start <= rows.end && rows.end <= self.len, "{rows:?} of {} rows", self.len);
        let (first, len) = (self.offset + rows.start, rows.len());
        match self.field.kind {
            Kind::Number(element) => {
                let start = self.values(first * element.size(), len);
                Some(Run::Values { start, len, element })
            }
            Kind::Bool => Some(Run::Bits { start: self.values(0, len), first, len }),
            _ => None,
        }
    }

    /// The address of the values of a type that has some, so many bytes on; NULL where none is asked for.
    fn values(&self, bytes: usize, len: usize) -> *const u8 {
        match self.buffer(1) {
            Some(start) if len > 0 => start.wrapping_add(bytes),
            _ => std::ptr::null(),
        }
    }

    /// The address of the values of 16-bit floats.
    ///
    /// # Panics
    /// If there are fewer rows, or other values.
    #[must_use]
    pub fn halves(&self, rows: &Range<usize>) -> *const u8 {
        assert!(rows.end <= self.len && self.field.kind == Kind::Half, "{rows:?} of {} halves", self.len);
        self.values((self.offset + rows.start) * 2, rows.len())
    }

    /// The bytes of a row of text or bytes.
    ///
    /// # Panics
    /// If there are fewer rows, or they are no text.
    pub fn text(&self, row: usize) -> Result<&'a [u8], Broken> {
        assert!(row < self.len, "row {row} of {}", self.len);
        let (start, range) = match self.field.kind {
            Kind::Text(offsets, _) => {
                let range = self.range(offsets, row)?;
                // The last offset is what its producer has made the buffer for: its own, be a struct's rows fewer.
                if range.end > self.range_at(offsets, self.end() - 1)?.end {
                    return Err(BACKWARDS);
                }
                (self.buffer(2), range)
            }
            Kind::View(_) => return self.viewed(row),
            _ => unreachable!("asked of text alone"),
        };
        if range.is_empty() {
            return Ok(&[]);
        }
        let start = start.ok_or(Broken("it has text, but its buffer is at NULL"))?;
        // SAFETY: by the contract of `RecordBatch::new` the buffer is as long as the last offset says.
        Ok(unsafe { slice::from_raw_parts(start.add(range.start), range.len()) })
    }

    /// The bytes of a row of a view type: in the record itself, or in one of the buffers behind it.
    fn viewed(&self, row: usize) -> Result<&'a [u8], Broken> {
        let views = self.buffer(1).ok_or(Broken("it has rows, but their buffer is at NULL"))?;
        let record = views.wrapping_add(self.place(row) * VIEW);
        // SAFETY: there is a record for each row; its parts are integers of 32 bits.
        let part = |index: usize| unsafe { read::<i32>(record, index) };
        let length = usize::try_from(part(0)).map_err(|_| Broken("a text has a negative length"))?;
        if length <= VIEW - 4 {
            // SAFETY: so short a text lies in the record.
            return Ok(unsafe { slice::from_raw_parts(record.add(4), length) });
        }
        // Behind the buffers of text comes one with their lengths.
        let count = usize::try_from(self.raw.n_buffers).unwrap_or_default() - 3;
        let (buffer, begin) = (usize::try_from(part(2)), usize::try_from(part(3)));
        let (Ok(buffer), Ok(begin)) = (buffer, begin) else { return Err(Broken("a text begins before its buffer")) };
        let sizes = self.buffer(2 + count).ok_or(Broken("its buffers of text have no lengths"))?;
        if buffer >= count {
            return Err(Broken("a text is in a buffer that is not there"));
        }
        // SAFETY: there is a length for each buffer.
        let size = unsafe { read::<i64>(sizes, buffer) };
        if begin.checked_add(length).is_none_or(|end| i64::try_from(end).is_ok_and(|end| end > size)) {
            return Err(Broken("a text ends behind its buffer"));
        }
        let start = self.buffer(2 + buffer).ok_or(Broken("it has text, but its buffer is at NULL"))?;
        // SAFETY: its end has been compared with the buffer's length.
        Ok(unsafe { slice::from_raw_parts(start.add(begin), length) })
    }
}

/// The first value of a source.
#[must_use]
pub(super) fn first(source: &Source<'_>) -> Option<Number> {
    let mut found = None;
    let read = source.read(0..source.len().min(1), |_, values| {
        found = with_values!(values, values => values.first().map(|value| value.number()));
        Ok::<(), crate::source::NotPlain>(())
    });
    read.ok().and(found)
}

/// An integer of a buffer, which may be at any address.
///
/// # Safety
/// So many integers of this type, and one more, are there.
unsafe fn read<T: Copy>(buffer: *const u8, index: usize) -> T {
    // SAFETY: by contract.
    unsafe { buffer.add(index * size_of::<T>()).cast::<T>().read_unaligned() }
}

/// Bytes of a record of a view type.
const VIEW: usize = 16;

impl Offsets {
    fn size(self) -> usize {
        match self {
            Self::Narrow => 4,
            Self::Wide => 8,
        }
    }
}
