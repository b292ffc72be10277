//! Values of every type that is read, as plain trees, and as arrays that producers could give: with rows before and
//! behind those that count, at any address, with anything under nulls.

use _core::cells::Element;

use crate::arrow_build::{Data, Type, bits, narrow, wide};

/// A type.
#[derive(Clone, Debug)]
pub(crate) enum Of {
    Null,
    Bool,
    Number(Element),
    Half,
    /// With offsets of 64 bits, or of 32.
    List(bool, Box<Of>),
    Fixed(usize, Box<Of>),
    Struct(Vec<Of>),
    /// With offsets of 64 bits, or of 32.
    Text(bool),
    View,
}

/// A value. Numbers are their bytes, in this machine's order; bools are one byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tree {
    Null,
    Bytes(Vec<u8>),
    /// The items of a list, or the fields of a struct.
    Items(Vec<Tree>),
}

impl Of {
    /// The type, as schemas say it.
    pub(crate) fn schema(&self) -> Type {
        match self {
            Self::Null => Type::new("n", []),
            Self::Bool => Type::new("b", []),
            Self::Number(element) => Type::new(format_of(*element), []),
            Self::Half => Type::new("e", []),
            Self::List(wide, inner) => Type::new(if *wide { "+L" } else { "+l" }, [inner.schema()]),
            Self::Fixed(size, inner) => Type::new(&format!("+w:{size}"), [inner.schema()]),
            Self::Struct(fields) => {
                let names = ["data", "shape", "c", "d"];
                Type::new("+s", fields.iter().zip(names).map(|(field, name)| field.schema().named(name)))
            }
            Self::Text(wide) => Type::new(if *wide { "Z" } else { "u" }, []),
            Self::View => Type::new("vu", []),
        }
    }

    /// Values of it that nobody is to read.
    fn junk(&self) -> Tree {
        match self {
            Self::Null => Tree::Null,
            Self::Bool => Tree::Bytes(vec![1]),
            Self::Number(element) => Tree::Bytes(vec![0x6B; element.size()]),
            Self::Half => Tree::Bytes(vec![0x6B; 2]),
            Self::List(_, inner) => Tree::Items(vec![inner.junk(); 2]),
            Self::Fixed(size, inner) => Tree::Items(vec![inner.junk(); *size]),
            Self::Struct(fields) => Tree::Items(fields.iter().map(Self::junk).collect()),
            Self::Text(_) => Tree::Bytes(b"junk".to_vec()),
            Self::View => Tree::Bytes(b"junk that lies in a buffer".to_vec()),
        }
    }
}

pub(crate) fn format_of(element: Element) -> &'static str {
    match element {
        Element::Int8 => "c",
        Element::Int16 => "s",
        Element::Int32 => "i",
        Element::Int64 => "l",
        Element::UInt8 => "C",
        Element::UInt16 => "S",
        Element::UInt32 => "I",
        Element::UInt64 => "L",
        Element::Float32 => "f",
        Element::Float64 => "g",
        Element::Bool => "b",
    }
}

/// How an array lies in memory. Its children take the next of several.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form {
    /// Rows before those that count.
    pub(crate) before: usize,
    /// Rows behind them, that the array does not count.
    pub(crate) behind: usize,
    pub(crate) misaligned: bool,
    /// Whether there are validity bits where nothing is null.
    pub(crate) bits: bool,
    /// Whether the number of nulls is said.
    pub(crate) counted: bool,
}

/// An array of these values.
pub(crate) fn encode(of: &Of, values: &[Tree], forms: &[Form]) -> Data {
    let (form, rest) = (forms[0], [&forms[1..], &forms[..1]].concat());
    let junk = of.junk();
    let rows = [vec![junk.clone(); form.before], values.to_vec(), vec![junk.clone(); form.behind]].concat();
    let valid: Vec<bool> = rows.iter().map(|row| *row != Tree::Null).collect();
    let nulls = values.iter().filter(|row| **row == Tree::Null).count();
    let validity = if nulls > 0 || form.bits { bits(&valid) } else { None };
    let rows: Vec<Tree> = rows.into_iter().map(|row| if row == Tree::Null { junk.clone() } else { row }).collect();
    let data = match of {
        Of::Null => Data::new(0, []),
        Of::Bool => Data::new(0, [validity, bits(&rows.iter().map(|row| row.bytes() == [1]).collect::<Vec<_>>())]),
        Of::Number(_) | Of::Half => {
            Data::new(0, [validity, Some(rows.iter().flat_map(Tree::bytes).copied().collect())])
        }
        Of::List(wide, inner) => {
            let (ends, items) = end_to_end(&rows, Tree::items);
            Data::new(0, [validity, offsets(*wide, &ends)]).with([encode(inner, &items, &rest)])
        }
        Of::Fixed(_, inner) => Data::new(0, [validity]).with([encode(inner, &end_to_end(&rows, Tree::items).1, &rest)]),
        Of::Struct(fields) => Data::new(0, [validity]).with(fields.iter().enumerate().map(|(index, field)| {
            let column: Vec<Tree> = rows.iter().map(|row| row.items()[index].clone()).collect();
            encode(field, &column, &rest[index % rest.len()..].iter().chain(&rest).copied().collect::<Vec<_>>())
        })),
        Of::Text(wide) => {
            let (ends, text) = end_to_end(&rows, Tree::bytes);
            Data::new(0, [validity, offsets(*wide, &ends), (!text.is_empty()).then_some(text)])
        }
        Of::View => views(validity, &rows),
    };
    Data {
        length: values.len(),
        nulls: if form.counted { i64::try_from(nulls).unwrap() } else { -1 },
        offset: form.before,
        misaligned: form.misaligned,
        ..data
    }
}

fn end_to_end<T: Clone>(rows: &[Tree], parts: impl Fn(&Tree) -> &[T]) -> (Vec<usize>, Vec<T>) {
    let mut all: Vec<T> = Vec::new();
    let mut ends = vec![0];
    for row in rows {
        all.extend_from_slice(parts(row));
        ends.push(all.len());
    }
    (ends, all)
}

fn offsets(is_wide: bool, ends: &[usize]) -> Option<Vec<u8>> {
    if is_wide {
        wide(&ends.iter().map(|&end| i64::try_from(end).unwrap()).collect::<Vec<_>>())
    } else {
        narrow(&ends.iter().map(|&end| i32::try_from(end).unwrap()).collect::<Vec<_>>())
    }
}

/// Short text in the records, long text in one of two buffers.
fn views(validity: Option<Vec<u8>>, rows: &[Tree]) -> Data {
    let (mut records, mut text) = (Vec::new(), [Vec::new(), Vec::new()]);
    for (index, row) in rows.iter().enumerate() {
        let row = row.bytes();
        records.extend(i32::try_from(row.len()).unwrap().to_ne_bytes());
        if let Some(rest) = 12_usize.checked_sub(row.len()) {
            records.extend(row);
            records.extend(vec![0; rest]);
        } else {
            let buffer = index % 2;
            records.extend(&row[..4]);
            records.extend(i32::try_from(buffer).unwrap().to_ne_bytes());
            records.extend(i32::try_from(text[buffer].len()).unwrap().to_ne_bytes());
            text[buffer].extend(row);
        }
    }
    let sizes = wide(&[&text[0], &text[1]].map(|text| i64::try_from(text.len()).unwrap()));
    let [first, second] = text;
    Data::new(0, [validity, Some(records), Some(first), Some(second), sizes])
}

impl Tree {
    pub(crate) fn bytes(&self) -> &[u8] {
        if let Self::Bytes(bytes) = self { bytes } else { &[] }
    }

    pub(crate) fn items(&self) -> &[Self] {
        if let Self::Items(items) = self { items } else { &[] }
    }
}
