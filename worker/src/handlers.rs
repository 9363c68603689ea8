//! Handlers that the configuration describes, one for each section `[handlers.NAME]`: `sql`, `http`, `exec` and `files`.
//!
//! Each type is a feature of the crate. The worker runs them like any other handler.

#[cfg(feature = "exec")]
mod exec;
#[cfg(feature = "files")]
mod files;
#[cfg(feature = "http")]
mod http;
mod input;
mod limits;
#[cfg(feature = "sql")]
mod sql;

use crate::config::InvalidConfig;
use crate::config::handlers::{Section, Sections};
use crate::handler::Registry;

/// A handler that was made from a section.
enum Configured {
    #[cfg(feature = "exec")]
    Exec(exec::Exec),
    #[cfg(feature = "files")]
    Files(files::Files),
    #[cfg(feature = "http")]
    Http(Box<http::Http>),
    #[cfg(feature = "sql")]
    Sql(Box<sql::Sql>),
}

/// Adds a handler for each section. A kind that the program handles itself cannot be a section too.
pub(crate) fn register(mut registry: Registry, sections: &Sections) -> Result<Registry, InvalidConfig> {
    for (name, section) in sections {
        if registry.kinds().any(|kind| kind == name) {
            let problem =
                "this program has a handler of that name itself; name the section differently".into();
            return Err(InvalidConfig::Handler { name: name.clone(), problem });
        }
        let configured = configured(name, section)
            .map_err(|problem| InvalidConfig::Handler { name: name.clone(), problem })?;
        registry = match configured {
            #[cfg(feature = "exec")]
            Configured::Exec(handler) => registry.on(name, handler),
            #[cfg(feature = "files")]
            Configured::Files(handler) => registry.on(name, handler),
            #[cfg(feature = "http")]
            Configured::Http(handler) => registry.on(name, *handler),
            #[cfg(feature = "sql")]
            Configured::Sql(handler) => registry.on(name, *handler),
        };
    }
    Ok(registry)
}

impl Registry {
    /// Adds a handler for each section of a configuration, as `postern-worker` does.
    pub fn with_sections(self, sections: &Sections) -> Result<Self, InvalidConfig> {
        register(self, sections)
    }
}

/// Tries what a section needs, without doing its work: what was found, or what is wrong.
pub(crate) async fn check(name: &str, section: &Section) -> Result<String, String> {
    match configured(name, section)? {
        #[cfg(feature = "exec")]
        Configured::Exec(handler) => handler.check(),
        #[cfg(feature = "files")]
        Configured::Files(handler) => handler.check(),
        #[cfg(feature = "http")]
        Configured::Http(handler) => handler.check().await,
        #[cfg(feature = "sql")]
        Configured::Sql(handler) => handler.check().await,
    }
}

fn configured(name: &str, section: &Section) -> Result<Configured, String> {
    let _ = name;
    match section.clone() {
        #[cfg(feature = "exec")]
        Section::Exec(section) => exec::Exec::new(section).map(Configured::Exec),
        #[cfg(feature = "files")]
        Section::Files(section) => files::Files::new(section).map(Configured::Files),
        #[cfg(feature = "http")]
        Section::Http(section) => http::Http::new(section).map(Box::new).map(Configured::Http),
        #[cfg(feature = "sql")]
        Section::Sql(section) => sql::Sql::new(name, section).map(Box::new).map(Configured::Sql),
        #[cfg(not(all(feature = "exec", feature = "files", feature = "http", feature = "sql")))]
        _ => Err("this worker was built without the type of the section".into()),
    }
}

#[cfg(test)]
mod tests;
