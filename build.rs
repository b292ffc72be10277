//! Hands on which CPython the extension is compiled for, as `cfg(Py_3_12)` and its like.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    #[cfg(feature = "python")]
    pyo3_build_config::use_pyo3_cfgs();
}
