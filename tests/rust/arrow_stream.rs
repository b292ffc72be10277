//! Who owns records, and streams of them: moved once, given back once, whatever goes wrong.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::ffi::{CString, c_char, c_int};
use std::ptr;

use _core::source::arrow::abi::{ArrowArray, ArrowArrayStream, ArrowSchema, Owned, Record, Stream, StreamError};

use crate::arrow_build::{Ledger, integers, list_type, lists, owned};

/// What a stream gives, or the number of an error.
struct Producer {
    ledger: Ledger,
    schema: Result<ArrowSchema, c_int>,
    arrays: VecDeque<Result<ArrowArray, c_int>>,
    message: Option<CString>,
}

impl Producer {
    fn new(ledger: &Ledger, schema: Result<ArrowSchema, c_int>) -> Self {
        Self { ledger: ledger.clone(), schema, arrays: VecDeque::new(), message: None }
    }

    /// The record, which has to be given back.
    fn export(self) -> ArrowArrayStream {
        self.ledger.give();
        ArrowArrayStream {
            get_schema: Some(get_schema),
            get_next: Some(get_next),
            get_last_error: Some(get_last_error),
            release: Some(release),
            private_data: Box::into_raw(Box::new(self)).cast(),
        }
    }
}

/// # Safety
/// `Producer::export` has made it, and it has not been given back.
unsafe fn producer<'a>(stream: *mut ArrowArrayStream) -> &'a mut Producer {
    // SAFETY: by contract.
    unsafe { &mut *(*stream).private_data.cast::<Producer>() }
}

unsafe extern "C" fn get_schema(stream: *mut ArrowArrayStream, to: *mut ArrowSchema) -> c_int {
    // SAFETY: the caller has the stream, and a place for the record.
    unsafe {
        match std::mem::replace(&mut producer(stream).schema, Ok(ArrowSchema::EMPTY)) {
            Ok(schema) => to.write(schema),
            Err(code) => return code,
        }
    }
    0
}

unsafe extern "C" fn get_next(stream: *mut ArrowArrayStream, to: *mut ArrowArray) -> c_int {
    // SAFETY: likewise.
    unsafe {
        match producer(stream).arrays.pop_front() {
            Some(Ok(array)) => to.write(array),
            Some(Err(code)) => return code,
            None => to.write(ArrowArray::EMPTY),
        }
    }
    0
}

unsafe extern "C" fn get_last_error(stream: *mut ArrowArrayStream) -> *const c_char {
    // SAFETY: likewise.
    unsafe { producer(stream) }.message.as_ref().map_or(ptr::null(), |message| message.as_ptr())
}

unsafe extern "C" fn release(stream: *mut ArrowArrayStream) {
    // SAFETY: likewise; it is given back once.
    unsafe {
        let mut producer = Box::from_raw((*stream).private_data.cast::<Producer>());
        producer.ledger.take_back();
        if let Ok(schema) = &mut producer.schema {
            drop(Owned::take(schema));
        }
        for mut array in producer.arrays.drain(..).flatten() {
            drop(Owned::take(&mut array));
        }
        (*stream).release = None;
    }
}

fn failed<T>(code: c_int, message: &str) -> Result<T, StreamError> {
    Err(StreamError::Failed { code, message: message.to_owned() })
}

#[test]
fn a_record_is_given_back_once() {
    let ledger = Ledger::default();
    let (schema, array) = (owned(list_type().export(&ledger)), owned(lists(&[&[1]]).export(&ledger)));
    assert_eq!((ledger.given(), ledger.back()), (4, 0));
    drop(schema);
    assert_eq!(ledger.back(), 2);
    drop(array);
    ledger.assert_settled();
}

#[test]
fn a_record_that_was_moved_is_not_there_any_more() {
    let ledger = Ledger::default();
    let mut record = integers(&[1]).export(&ledger);
    // SAFETY: `export` has made it.
    let first = unsafe { Owned::take(&mut record) };
    assert!(record.release.is_none() && record.private_data.is_null() && record.buffers.is_null());
    // SAFETY: it is empty.
    assert!(unsafe { Owned::take(&mut record) }.is_none());
    assert_eq!(ledger.back(), 0);
    drop(first);
    ledger.assert_settled();
}

#[test]
fn empty_records_are_none() {
    fn is_none<R: Record>(mut empty: R) -> bool {
        // SAFETY: it is empty.
        unsafe { Owned::take(&mut empty) }.is_none()
    }
    assert!(is_none(ArrowSchema::EMPTY) && is_none(ArrowArray::EMPTY) && is_none(ArrowArrayStream::EMPTY));
}

#[test]
fn another_thread_may_give_a_record_back() {
    let ledger = Ledger::default();
    let array = owned(integers(&[1]).export(&ledger));
    std::thread::spawn(move || drop(array)).join().unwrap();
    ledger.assert_settled();
}

#[test]
fn a_stream_gives_its_arrays_and_ends() {
    let ledger = Ledger::default();
    let mut producer = Producer::new(&ledger, Ok(list_type().export(&ledger)));
    producer.arrays.extend([1, 0, 2].map(|rows| Ok(lists(&vec![&[7][..]; rows]).export(&ledger))));
    let mut stream = Stream::new(owned(producer.export()));
    let schema = stream.schema().unwrap();
    let lengths: Vec<i64> =
        std::iter::from_fn(|| stream.next_array().unwrap()).map(|array| array.get().length).collect();
    assert_eq!(lengths, [1, 0, 2]);
    assert_eq!(stream.next_array().unwrap().map(|_| ()), None, "and again");
    drop(stream);
    assert_eq!(ledger.given() - ledger.back(), 2, "the type is on its own");
    drop(schema);
    ledger.assert_settled();
}

#[test]
fn a_stream_that_is_not_read_to_its_end_is_given_back() {
    let ledger = Ledger::default();
    let mut producer = Producer::new(&ledger, Ok(list_type().export(&ledger)));
    producer.arrays.extend([1, 2].map(|rows| Ok(lists(&vec![&[7][..]; rows]).export(&ledger))));
    let mut stream = Stream::new(owned(producer.export()));
    let first = stream.next_array().unwrap().unwrap();
    drop(stream);
    assert_eq!(ledger.given() - ledger.back(), 2);
    assert_eq!(first.get().length, 1, "it is alive without its stream");
    drop(first);
    ledger.assert_settled();
}

#[test]
fn a_stream_that_fails_at_once() {
    for (message, expected) in [(Some(c"no such file"), "no such file"), (Some(c""), ""), (None, "")] {
        let ledger = Ledger::default();
        let mut producer = Producer::new(&ledger, Err(5));
        producer.message = message.map(CString::from);
        let mut stream = Stream::new(owned(producer.export()));
        assert_eq!(stream.schema().map(|_| ()), failed(5, expected));
        drop(stream);
        ledger.assert_settled();
    }
}

#[test]
fn a_stream_that_fails_later() {
    let ledger = Ledger::default();
    let mut producer = Producer::new(&ledger, Ok(list_type().export(&ledger)));
    producer.arrays.extend([Ok(lists(&[]).export(&ledger)), Err(-12), Ok(lists(&[]).export(&ledger))]);
    producer.message = Some(CString::from(c"caf\xE9"));
    let mut stream = Stream::new(owned(producer.export()));
    assert!(stream.next_array().unwrap().is_some());
    assert_eq!(stream.next_array().map(|_| ()), failed(-12, "caf\u{FFFD}"));
    drop(stream);
    ledger.assert_settled();
}

#[test]
fn an_error_without_a_callback_for_its_sentence() {
    let ledger = Ledger::default();
    let mut record = Producer::new(&ledger, Err(22)).export();
    record.get_last_error = None;
    let mut stream = Stream::new(owned(record));
    assert_eq!(stream.schema().map(|_| ()), failed(22, ""));
    drop(stream);
    ledger.assert_settled();
}

#[test]
fn a_stream_without_callbacks_or_schema() {
    let ledger = Ledger::default();
    let mut record = Producer::new(&ledger, Ok(ArrowSchema::EMPTY)).export();
    (record.get_next, record.get_schema) = (None, None);
    let mut stream = Stream::new(owned(record));
    assert_eq!(stream.schema().map(|_| ()), Err(StreamError::Empty));
    assert_eq!(stream.next_array().map(|_| ()), Err(StreamError::Empty));
    drop(stream);
    let mut stream = Stream::new(owned(Producer::new(&ledger, Ok(ArrowSchema::EMPTY)).export()));
    assert_eq!(stream.schema().map(|_| ()), Err(StreamError::Empty), "a schema that is empty");
    drop(stream);
    ledger.assert_settled();
}

#[test]
fn errors_have_a_sentence() {
    let sentence = |error: StreamError| error.to_string();
    assert_eq!(sentence(StreamError::Failed { code: 5, message: "no such file".to_owned() }), "no such file");
    assert_eq!(sentence(StreamError::Failed { code: 5, message: String::new() }), "error 5");
    assert_eq!(sentence(StreamError::Empty), "the stream gives nothing that the interface demands");
}
