//! Compiles the `.proto` files in pure Rust: no protoc on build machines.

mod methods;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    const FILES: [&str; 6] = [
        "longshore/spec/v1/spec.proto",
        "longshore/agent/v1/agent.proto",
        "longshore/control/v1/control.proto",
        "longshore/images/v1/images.proto",
        "longshore/secrets/v1/secrets.proto",
        "longshore/operators/v1/operators.proto",
    ];
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, ["."])?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(
        out.join("descriptors.bin"),
        prost::Message::encode_to_vec(&descriptors),
    )?;
    std::fs::write(out.join("methods.rs"), methods::source(&descriptors)?)?;
    tonic_prost_build::configure()
        // Far larger than all others.
        .boxed(".longshore.agent.v1.OpenStream.kind.run")
        // Written by hand: what they hold must not be seen.
        .skip_debug([
            ".longshore.agent.v1.Certificate",
            ".longshore.agent.v1.Contents",
            ".longshore.control.v1.Secret",
            ".longshore.control.v1.FileContents",
            ".longshore.control.v1.BackupResponse",
            ".longshore.images.v1.GetCredentialsResponse",
            ".longshore.secrets.v1.PutRegistryRequest",
            ".longshore.secrets.v1.PutSecretRequest",
            ".longshore.operators.v1.Secret",
            ".longshore.agent.v1.JoinOperatorRequest",
        ])
        .compile_fds(descriptors)?;
    Ok(())
}
