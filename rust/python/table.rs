//! The dataclasses of `dpo_collate.layout`, read once, become [`Layout`] and [`Keys`].
//!
//! Here symbols become numbers, stems become keys, and keys become indices. The dataclasses have
//! checked themselves; what is checked here is what only the whole table shows.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::cells::DType;
use crate::error::Number;
use crate::layout::{Absent, Column, Content, Key, Layout, Length, Matrix, Order, Scalar, Side, Tail, Truncation};
use crate::source::keys::{Keys, Role, Unknown};

/// The values of the two symbols that a table may use.
#[derive(Clone, Copy)]
pub(super) struct Symbols {
    pub(super) pad_token_id: i64,
    pub(super) label_pad_token_id: i64,
}

/// A medium, or a list of the samples' values: what is gathered for it, row by row, is combined by the
/// Python layer.
pub(super) struct Gather {
    pub(super) name: String,
    pub(super) keys: Vec<Key>,
}

/// Everything that a table says.
pub(super) struct Table {
    pub(super) layout: Layout,
    pub(super) keys: Keys,
    pub(super) media: Vec<Gather>,
}

#[derive(FromPyObject)]
enum FillTable {
    Int(i64),
    Float(f64),
    Symbol(String),
}

#[derive(FromPyObject)]
pub(super) struct LengthTable {
    max_length: Option<usize>,
    truncation_mode: String,
    min_length: usize,
    multiple_of: usize,
    buckets: Vec<usize>,
    row_multiple_of: usize,
}

#[derive(FromPyObject)]
struct ColumnTable {
    of: String,
    pad: Option<FillTable>,
    dtype: String,
    start: i64,
    skip: usize,
    shift: usize,
    on: Option<Vec<usize>>,
    differs_from: Option<FillTable>,
    optional: bool,
    default: Option<String>,
    nonempty: bool,
}

#[derive(FromPyObject)]
struct MatrixTable {
    rows: Vec<Vec<String>>,
    columns: Vec<ColumnTable>,
    tokens: String,
    side: String,
    flat: bool,
    tail: String,
    drop_last: usize,
    optional: bool,
    length: LengthTable,
}

#[derive(FromPyObject)]
struct MediaTable {
    keys: Vec<String>,
}

#[derive(FromPyObject)]
struct ScalarTable {
    keys: Vec<String>,
    dtype: Option<String>,
    default: Option<FillTable>,
    optional: bool,
}

#[derive(FromPyObject)]
struct LayoutTable {
    name: String,
    matrices: Vec<MatrixTable>,
    media: Vec<MediaTable>,
    scalars: Vec<ScalarTable>,
    order: String,
    extra: String,
    reserved: Vec<String>,
    ignored: Vec<String>,
    unbatch: bool,
}

impl Table {
    /// Resolves a `dpo_collate.layout.Layout`.
    pub(super) fn read(layout: &Bound<'_, PyAny>, symbols: Symbols, counted: Vec<i64>) -> PyResult<Self> {
        let table: LayoutTable = layout.extract()?;
        // Keys of the batch, in the order of the table; how a stem goes into them is said there alone.
        let output: Vec<String> = layout.call_method0(intern!(layout.py(), "names"))?.extract()?;
        let mut resolver =
            Resolver { symbols, output: output.clone().into_iter(), names: Vec::new(), roles: Vec::new() };
        let matrices = table.matrices.iter().map(|matrix| resolver.matrix(matrix)).collect::<PyResult<Vec<_>>>()?;
        let mut media = table
            .media
            .iter()
            .map(|medium| resolver.gather(&medium.keys, Role::Media))
            .collect::<PyResult<Vec<_>>>()?;
        let mut scalars = Vec::new();
        for scalar in &table.scalars {
            match &scalar.dtype {
                Some(dtype) => scalars.push(resolver.scalar(scalar, dtype)?),
                None => media.push(resolver.gather(&scalar.keys, Role::Value)?),
            }
        }
        // A sample may carry what the batch will make anew (InternVL's carry their masks); but images under a
        // reserved name would be lost if the batch has others of that name.
        let columns = table.matrices.iter().map(|matrix| matrix.columns.len()).sum();
        let images = columns..columns + table.media.len();
        let reserved = |name: &String| table.reserved.iter().any(|prefix| name.starts_with(prefix));
        let anew = output.iter().enumerate().filter(|(index, name)| !(images.contains(index) && reserved(name)));
        for name in anew.map(|(_, name)| name).chain(&table.ignored) {
            if !resolver.names.contains(name) {
                resolver.key(name, Role::Ignored)?;
            }
        }
        let order = match table.order.as_str() {
            "grouped" => Order::Grouped,
            "interleaved" => Order::Interleaved,
            other => return Err(unknown_word("order", other)),
        };
        let unknown = match table.extra.as_str() {
            "drop" => Unknown::Drop,
            "error" => Unknown::Error,
            "list" | "stack" => Unknown::Take,
            other => return Err(unknown_word("extra", other)),
        };
        let py = layout.py();
        let names = resolver.names.iter().map(|name| PyString::intern(py, name).unbind()).collect();
        Ok(Self {
            keys: Keys {
                layout: table.name,
                names,
                roles: resolver.roles,
                unknown,
                reserved: table.reserved,
                unbatch: table.unbatch,
            },
            layout: Layout { keys: resolver.names, matrices, scalars, order, counted },
            media,
        })
    }
}

struct Resolver {
    symbols: Symbols,
    output: std::vec::IntoIter<String>,
    names: Vec<String>,
    roles: Vec<Role>,
}

impl Resolver {
    /// The index of a key; a row that one part of the table requires is required.
    fn key(&mut self, name: &str, role: Role) -> PyResult<Key> {
        let Some(key) = self.names.iter().position(|known| known == name) else {
            self.names.push(name.to_owned());
            self.roles.push(role);
            return Ok(self.names.len() - 1);
        };
        match (&mut self.roles[key], role) {
            (Role::Row { required, floats }, Role::Row { required: also, floats: these }) => {
                *required |= also;
                *floats &= these;
            }
            (known, role) if *known != role => {
                return Err(PyValueError::new_err(format!("'{name}' cannot be both {known} and {role}")));
            }
            _ => {}
        }
        Ok(key)
    }

    fn matrix(&mut self, table: &MatrixTable) -> PyResult<Matrix> {
        let mut shown = table.columns.iter().filter(|column| column.of == "tokens").peekable();
        let floats = shown.peek().is_some() && shown.all(|column| column.dtype.starts_with("float"));
        let rows = self.rows(table, &table.tokens, Role::Row { required: !table.optional, floats })?;
        let columns = table.columns.iter().map(|column| self.column(table, column)).collect::<PyResult<_>>()?;
        let side = match table.side.as_str() {
            "left" => Side::Left,
            "right" => Side::Right,
            other => return Err(unknown_word("side", other)),
        };
        let flat = match (table.flat, table.tail.as_str()) {
            (false, _) => None,
            (true, "segment") => Some(Tail::Segment),
            (true, "outside") => Some(Tail::Outside),
            (true, other) => return Err(unknown_word("tail", other)),
        };
        let (drop_last, optional) = (table.drop_last, table.optional);
        Ok(Matrix { rows, columns, side, flat, drop_last, optional, length: length(&table.length)? })
    }

    /// For each row of the matrix, the keys that a template names for its segments.
    fn rows(&mut self, table: &MatrixTable, template: &str, role: Role) -> PyResult<Vec<Vec<Key>>> {
        let mut key = |stem: &String| self.key(&template.replace("{}", stem), role);
        table.rows.iter().map(|stems| stems.iter().map(&mut key).collect()).collect()
    }

    fn column(&mut self, matrix: &MatrixTable, table: &ColumnTable) -> PyResult<Column> {
        let absent = match (table.default.as_deref(), table.optional) {
            (Some("ones"), _) => Absent::Ones,
            (Some(other), _) => return Err(unknown_word("default", other)),
            (None, true) => Absent::LeftOut,
            (None, false) => Absent::Error,
        };
        let dtype = dtype(&table.dtype)?;
        let content = match table.of.as_str() {
            "tokens" => Content::Tokens,
            "ones" => Content::Ones,
            "position" => Content::Position,
            "row" => Content::Row,
            "segment" => Content::Segment,
            "length" => Content::Length,
            "cu_seq_lens" => Content::CuSeqLens,
            "max_length" => Content::MaxLength,
            template if template.contains("{}") => {
                let floats = dtype.is_float() || table.differs_from.is_some();
                let role = Role::Row { required: absent == Absent::Error && !matrix.optional, floats };
                Content::Parallel(self.rows(matrix, template, role)?)
            }
            other => return Err(unknown_word("of", other)),
        };
        let name = self.next_name()?;
        let continues = matches!(&table.pad, Some(FillTable::Symbol(symbol)) if symbol == "continue");
        let pad = match &table.pad {
            _ if continues => Number::Int(0),
            Some(fill) => self.number(fill)?,
            // Ids are padded with the pad id, whatever is made of them with 0.
            None if table.of == "tokens" && table.differs_from.is_none() => Number::Int(self.symbols.pad_token_id),
            None => Number::Int(0),
        };
        if !dtype.fits(pad) {
            return Err(PyValueError::new_err(format!(
                "column '{name}' pads with {pad}, which does not fit {}",
                dtype.name()
            )));
        }
        let segments = matrix.rows.iter().map(Vec::len).max().unwrap_or_default();
        let on = table.on.as_ref().map(|on| (0..segments).map(|segment| on.contains(&segment)).collect());
        let labels = |fill: &Option<FillTable>| matches!(fill, Some(FillTable::Symbol(symbol)) if symbol == "label_pad_token_id");
        Ok(Column {
            content,
            pad,
            dtype,
            scored: labels(&table.pad) || labels(&table.differs_from) || table.on.is_some(),
            continues,
            start: table.start,
            skip: table.skip,
            shift: table.shift,
            on,
            differs_from: table.differs_from.as_ref().map(|number| self.number(number)).transpose()?,
            absent,
            nonempty: table.nonempty,
            name,
        })
    }

    fn gather(&mut self, keys: &[String], role: Role) -> PyResult<Gather> {
        let keys = keys.iter().map(|key| self.key(key, role)).collect::<PyResult<_>>()?;
        Ok(Gather { name: self.next_name()?, keys })
    }

    fn scalar(&mut self, table: &ScalarTable, dtype: &str) -> PyResult<Scalar> {
        let (name, dtype) = (self.next_name()?, self::dtype(dtype)?);
        let default = table.default.as_ref().map(|number| self.number(number)).transpose()?;
        if let Some(default) = default.filter(|&default| !dtype.fits(default)) {
            let dtype = dtype.name();
            return Err(PyValueError::new_err(format!(
                "scalar '{name}' has default {default}, which does not fit {dtype}"
            )));
        }
        let keys = table.keys.iter().map(|key| self.key(key, Role::Number)).collect::<PyResult<_>>()?;
        Ok(Scalar { name, keys, dtype, default, optional: table.optional })
    }

    /// The key in the batch of the next column, medium or scalar of the table.
    fn next_name(&mut self) -> PyResult<String> {
        self.output.next().ok_or_else(|| PyValueError::new_err("Layout.names() names too few keys"))
    }

    fn number(&self, fill: &FillTable) -> PyResult<Number> {
        Ok(match fill {
            FillTable::Int(int) => Number::Int(*int),
            FillTable::Float(float) => Number::Float(*float),
            FillTable::Symbol(symbol) => Number::Int(match symbol.as_str() {
                "pad_token_id" => self.symbols.pad_token_id,
                "label_pad_token_id" => self.symbols.label_pad_token_id,
                other => return Err(unknown_word("pad", other)),
            }),
        })
    }
}

/// Resolves a `dpo_collate.layout.Length`.
pub(super) fn length(table: &LengthTable) -> PyResult<Length> {
    let truncation = match table.truncation_mode.as_str() {
        "keep_start" => Truncation::KeepStart,
        "keep_end" => Truncation::KeepEnd,
        "error" => Truncation::Error,
        other => return Err(unknown_word("truncation_mode", other)),
    };
    // A padded row is as long as its matrix is wide, a flat matrix as wide as its rows are long: both
    // multiples hold where their least common one does.
    let multiple_of = lcm(table.multiple_of.max(1), table.row_multiple_of.max(1));
    let multiple_of =
        multiple_of.ok_or_else(|| PyValueError::new_err("multiple_of and row_multiple_of are too large"))?;
    let mut buckets = table.buckets.clone();
    buckets.sort_unstable();
    let LengthTable { max_length, min_length, row_multiple_of, .. } = *table;
    Ok(Length { max_length, truncation, min_length, multiple_of, buckets, row_multiple_of: row_multiple_of.max(1) })
}

fn lcm(a: usize, b: usize) -> Option<usize> {
    let (mut gcd, mut rest) = (a, b);
    while rest != 0 {
        (gcd, rest) = (rest, gcd % rest);
    }
    (a / gcd).checked_mul(b)
}

fn dtype(name: &str) -> PyResult<DType> {
    DType::by_name(name).ok_or_else(|| unknown_word("dtype", name))
}

fn unknown_word(field: &str, word: &str) -> PyErr {
    PyTypeError::new_err(format!("{field}='{word}' is not a word of the layout language"))
}
