//! Array memory of any form for sources, and what a kernel or a batch has written read back.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;

use _core::arena::Lease;
use _core::cells::{Bool, Cell, DType, Element};
use _core::collate::Collated;
use _core::plan::Array;
use _core::source::{Source, Strided};

use crate::naive::{Plain, from_bytes};

/// Every type that values can have.
pub(crate) const ELEMENTS: [Element; 11] = [
    Element::Int8,
    Element::Int16,
    Element::Int32,
    Element::Int64,
    Element::UInt8,
    Element::UInt16,
    Element::UInt32,
    Element::UInt64,
    Element::Bool,
    Element::Float32,
    Element::Float64,
];

/// How the values of an array lie in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form {
    pub(crate) element: Element,
    /// Bytes from one value to the next.
    pub(crate) stride: isize,
    /// Bytes from a multiple of 8 to the first value.
    pub(crate) misaligned: usize,
    pub(crate) swapped: bool,
}

impl Form {
    /// Side by side, aligned, in this machine's byte order.
    pub(crate) fn plain(element: Element) -> Self {
        Self { element, stride: element.size().cast_signed(), misaligned: 0, swapped: false }
    }
}

/// An array in a buffer of its own.
#[derive(Debug)]
pub(crate) struct Stored {
    buffer: Vec<u8>,
    /// Where the first value begins in the buffer.
    start: usize,
    len: usize,
    form: Form,
}

impl Stored {
    /// Room for `len` values, made of the bytes that `byte` gives for each place.
    pub(crate) fn new(len: usize, form: Form, byte: impl Fn(usize) -> u8) -> Self {
        let reach = form.stride.unsigned_abs() * len.saturating_sub(1);
        let buffer: Vec<u8> = (0..reach + form.element.size() + 8 + form.misaligned).map(byte).collect();
        let before = if form.stride < 0 { reach } else { 0 };
        let address = buffer.as_ptr().addr() + before;
        let start = before + address.next_multiple_of(8) - address + form.misaligned;
        Self { buffer, start, len, form }
    }

    /// An array of these values; they have to fit the type and lie apart.
    pub(crate) fn of(values: &[i64], form: Form) -> Self {
        let mut stored = Self::new(values.len(), form, |_| 0xA5);
        for (index, &value) in values.iter().enumerate() {
            let size = form.element.size();
            let mut bytes = match form.element {
                Element::Float32 => f32::from(i16::try_from(value).unwrap()).to_ne_bytes().to_vec(),
                Element::Float64 => f64::from(i32::try_from(value).unwrap()).to_ne_bytes().to_vec(),
                _ if cfg!(target_endian = "little") => value.to_ne_bytes()[..size].to_vec(),
                _ => value.to_ne_bytes()[8 - size..].to_vec(),
            };
            if form.swapped {
                bytes.reverse();
            }
            let at = stored.place(index);
            stored.buffer[at..at + size].copy_from_slice(&bytes);
        }
        stored
    }

    /// Where a value begins in the buffer.
    fn place(&self, index: usize) -> usize {
        self.start.strict_add_signed(self.form.stride * index.cast_signed())
    }

    /// The values, read byte by byte.
    pub(crate) fn naive(&self) -> Vec<Plain> {
        let value = |index| {
            let mut bytes = self.buffer[self.place(index)..][..self.form.element.size()].to_vec();
            if self.form.swapped {
                bytes.reverse();
            }
            from_bytes(self.form.element, &bytes)
        };
        (0..self.len).map(value).collect()
    }

    /// The array, as sources know it.
    pub(crate) fn strided(&self) -> Strided<'_> {
        for index in [0, self.len.saturating_sub(1)] {
            assert!(self.place(index) + self.form.element.size() <= self.buffer.len());
        }
        let Form { element, stride, swapped, .. } = self.form;
        // SAFETY: `place` would have panicked below 0, and the first and the last value end within
        // the buffer, so those between them do; the borrow keeps it as it is.
        unsafe { Strided::new(self.buffer.as_ptr().add(self.start), self.len, stride, element, swapped) }
    }
}

/// An array of one value, which shows as many: no stride, hardly any memory.
pub(crate) fn repeated(value: &i64, len: usize) -> Source<'_> {
    let start = std::ptr::from_ref(value).cast();
    // SAFETY: at a distance of 0, every value is this one; the borrow keeps it as it is.
    unsafe { Strided::new(start, len, 0, Element::Int64, false) }.into_source()
}

/// An array of no value, at any address.
pub(crate) fn empty(address: usize, stride: isize, element: Element, swapped: bool) -> Strided<'static> {
    // SAFETY: there is no value.
    unsafe { Strided::new(std::ptr::without_provenance(address), 0, stride, element, swapped) }
}

/// What `write` writes into so many cells: run twice, over different values, so that a cell that is
/// left out shows.
pub(crate) fn written<T: Cell + Into<Plain>, E>(
    len: usize,
    write: impl Fn(&mut [MaybeUninit<T>]) -> Result<(), E>,
) -> Result<Vec<Plain>, E> {
    let over = |value| {
        let mut cells = vec![MaybeUninit::new(T::from_int(value).unwrap()); len];
        write(&mut cells)?;
        // SAFETY: every cell was initialised two lines above, whatever `write` did.
        Ok(cells.iter().map(|cell| unsafe { cell.assume_init() }.into()).collect::<Vec<Plain>>())
    };
    let (zeros, ones) = (over(0)?, over(1)?);
    assert_eq!(zeros, ones, "every cell is written, whatever it held");
    Ok(zeros)
}

/// The cells of an array of a batch, row by row (an array of one dimension is one row). They must
/// all have been written: valgrind says where one was not.
pub(crate) fn rows(collated: &Collated, array: &Array) -> Vec<Vec<Plain>> {
    fn read<T: Cell + Into<Plain>>(start: *const u8, count: usize) -> Vec<Plain> {
        // SAFETY: `rows` has asserted that the cells lie in the block, aligned; `collate` gives a
        // batch away only when it has written them.
        (0..count).map(|index| unsafe { start.cast::<T>().add(index).read() }.into()).collect()
    }
    let (count, width) = array.width.map_or((1, array.rows), |width| (array.rows, width));
    let cells = count * width;
    assert!(array.offset + cells * array.dtype.size() <= collated.lease.bytes() && array.offset.is_multiple_of(64));
    let start = collated.lease.start().as_ptr().wrapping_add(array.offset);
    let cells = match array.dtype {
        DType::Int64 => read::<i64>(start, cells),
        DType::Int32 => read::<i32>(start, cells),
        DType::Bool => read::<Bool>(start, cells),
        DType::Float32 => read::<f32>(start, cells),
        DType::Float64 => read::<f64>(start, cells),
    };
    (0..count).map(|row| cells[row * width..][..width].to_vec()).collect()
}

/// The one column or the one scalar, in integers.
pub(crate) fn ints(collated: &Collated, array: &Array) -> Vec<Vec<i64>> {
    let int = |cell: &Plain| match *cell {
        Plain::Int(int) => i64::try_from(int).unwrap(),
        Plain::Float(float) => panic!("{float} is no integer"),
    };
    rows(collated, array).iter().map(|row| row.iter().map(int).collect()).collect()
}

/// Writes this value into every byte of a block.
pub(crate) fn fill(lease: &mut Lease, value: u8) {
    let bytes = lease.bytes();
    lease.cells::<Bool>(0, bytes).fill(MaybeUninit::new(Bool(value)));
}

/// Whether so many bytes of a block, which have been written, have this value.
pub(crate) fn holds(lease: &Lease, from: usize, bytes: usize, value: u8) -> bool {
    assert!(from + bytes <= lease.bytes());
    // SAFETY: the range lies in the block and has been written.
    let found = unsafe { std::slice::from_raw_parts(lease.start().as_ptr().add(from), bytes) };
    found.iter().all(|&byte| byte == value)
}
