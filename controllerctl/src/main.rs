//! `controllerctl`

fn main() -> std::process::ExitCode {
    controllerctl::main()
}
