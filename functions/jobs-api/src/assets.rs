//! The files of the page. They are part of the binary, so that the page and the API are always of one version.

/// A file that everybody may read.
#[derive(Debug)]
pub(crate) struct Asset {
    pub(crate) path: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) content: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// The page, its scripts and its style, and the description of the API.
static ASSETS: [Asset; 15] = [
    Asset { path: "/", kind: HTML, content: include_str!("../console/index.html") },
    Asset { path: "/address.js", kind: SCRIPT, content: include_str!("../console/address.js") },
    Asset { path: "/api.js", kind: SCRIPT, content: include_str!("../console/api.js") },
    Asset { path: "/console.js", kind: SCRIPT, content: include_str!("../console/console.js") },
    Asset { path: "/dialogs.js", kind: SCRIPT, content: include_str!("../console/dialogs.js") },
    Asset { path: "/dom.js", kind: SCRIPT, content: include_str!("../console/dom.js") },
    Asset { path: "/freshness.js", kind: SCRIPT, content: include_str!("../console/freshness.js") },
    Asset { path: "/job.js", kind: SCRIPT, content: include_str!("../console/job.js") },
    Asset { path: "/jobs.js", kind: SCRIPT, content: include_str!("../console/jobs.js") },
    Asset { path: "/live.js", kind: SCRIPT, content: include_str!("../console/live.js") },
    Asset { path: "/signin.js", kind: SCRIPT, content: include_str!("../console/signin.js") },
    Asset { path: "/text.js", kind: SCRIPT, content: include_str!("../console/text.js") },
    Asset { path: "/workers.js", kind: SCRIPT, content: include_str!("../console/workers.js") },
    Asset { path: "/console.css", kind: STYLE, content: include_str!("../console/console.css") },
    Asset { path: "/openapi.json", kind: "application/json", content: include_str!("openapi.json") },
];

/// The file at a path.
pub(crate) fn find(path: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.path == path)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_page_loads_nothing_but_its_own_files() {
        let page = find("/").unwrap().content;
        for attribute in ["src=\"", "href=\""] {
            for address in page.split(attribute).skip(1).filter_map(|rest| rest.split('"').next()) {
                let within_the_page = address.starts_with(['#', '?']) || address.starts_with("data:");
                assert!(find(address).is_some() || within_the_page, "{address}");
            }
        }
    }

    #[test]
    fn every_file_of_the_page_is_served() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/console");
        let files =
            std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        let files: BTreeSet<_> =
            files.map(|name| if name == "index.html" { "/".into() } else { format!("/{name}") }).collect();

        let served = ASSETS.iter().map(|asset| asset.path.to_owned()).filter(|path| path != "/openapi.json");
        assert_eq!(served.collect::<BTreeSet<_>>(), files);
    }
}
