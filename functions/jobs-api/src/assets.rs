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
static ASSETS: [Asset; 4] = [
    Asset { path: "/", kind: HTML, content: include_str!("../console/index.html") },
    Asset { path: "/console.js", kind: SCRIPT, content: include_str!("../console/console.js") },
    Asset { path: "/console.css", kind: STYLE, content: include_str!("../console/console.css") },
    Asset { path: "/openapi.json", kind: "application/json", content: include_str!("openapi.json") },
];

/// The file at a path.
pub(crate) fn find(path: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_loads_nothing_but_its_own_files() {
        let page = find("/").unwrap().content;
        for attribute in ["src=\"", "href=\""] {
            for address in page.split(attribute).skip(1).filter_map(|rest| rest.split('"').next()) {
                let own = find(address).is_some() || address.starts_with("data:") || address.starts_with('#');
                assert!(own, "{address}");
            }
        }
    }
}
