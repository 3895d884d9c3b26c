//! The `ottla` program: everything is in the library.

fn main() -> std::process::ExitCode {
    ottla::cli::main()
}
