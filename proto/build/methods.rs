//! Writes the list of all calls.

use std::fmt::Write;

use prost_types::FileDescriptorSet;

/// Source of `enum Method`: one variant for each call of each service, `Control` + `GetStatus` for
/// `longshore.control.v1.ControlService/GetStatus`.
pub fn source(descriptors: &FileDescriptorSet) -> Result<String, std::fmt::Error> {
    let (mut variants, mut all) = (String::new(), String::new());
    let (mut paths, mut found) = (String::new(), String::new());
    for file in &descriptors.file {
        for service in &file.service {
            let short = service.name().strip_suffix("Service");
            let short = short.unwrap_or(service.name());
            for method in &service.method {
                let variant = format!("{short}{}", method.name());
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                writeln!(variants, "    /// `{path}`\n    {variant},")?;
                write!(all, "Self::{variant}, ")?;
                writeln!(paths, "            Self::{variant} => {path:?},")?;
                writeln!(found, "            {path:?} => Self::{variant},")?;
            }
        }
    }
    Ok(format!(
        "/// A call of one of our services: who may make it, or counts them, must name each.\n\
         #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]\n\
         pub enum Method {{\n{variants}}}\n\
         impl Method {{\n\
             /// All of them.\n\
             pub const ALL: &[Self] = &[{all}];\n\
             /// `/package.Service/Method`, as HTTP/2 carries it.\n\
             #[must_use]\n\
             pub const fn path(self) -> &'static str {{\n        match self {{\n{paths}        }}\n    }}\n\
             /// The call with this path.\n\
             #[must_use]\n\
             pub fn from_path(path: &str) -> Option<Self> {{\n\
                 Some(match path {{\n{found}            _ => return None,\n        }})\n\
             }}\n\
         }}\n"
    ))
}
