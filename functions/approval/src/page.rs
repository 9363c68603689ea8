//! The pages that a person sees. Text from an event is escaped; a page loads no resource and runs no script.

use std::collections::BTreeMap;

use postern_approval::Decision;
use serde::Serialize;

/// A page, as the response of a Lambda function URL.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Page {
    pub(crate) status_code: u16,
    headers: BTreeMap<&'static str, &'static str>,
    pub(crate) body: String,
}

impl Page {
    /// The page with the question and the button. The form has no `action`, so the browser posts it to the link itself.
    pub(crate) fn question(question: &str, decision: Decision) -> Self {
        let (verb, class) = match decision {
            Decision::Approve => ("Approve", "yes"),
            Decision::Reject => ("Reject", "no"),
        };
        let form = format!(
            "<blockquote>{}</blockquote><form method=\"post\"><button class=\"{class}\">{verb}</button></form>\
             <p>Nothing is decided until you press the button.</p>",
            escaped(question)
        );
        Self::new(200, "Please decide", &form)
    }

    /// A page with one sentence.
    pub(crate) fn message(status_code: u16, title: &str, sentence: &str) -> Self {
        Self::new(status_code, title, &format!("<p>{}</p>", escaped(sentence)))
    }

    fn new(status_code: u16, title: &str, content: &str) -> Self {
        let headers = BTreeMap::from([
            ("allow", "GET, HEAD, POST"),
            ("cache-control", "no-store"),
            (
                "content-security-policy",
                "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; \
                 frame-ancestors 'none'",
            ),
            ("content-type", "text/html; charset=utf-8"),
            // The address is the credential, so the browser must not send it to other sites.
            ("referrer-policy", "no-referrer"),
            ("x-content-type-options", "nosniff"),
        ]);
        let title = escaped(title);
        let body = format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style>\
             </head><body><h1>{title}</h1>{content}</body></html>"
        );
        Self { status_code, headers, body }
    }
}

const STYLE: &str = "body{font:1.1rem system-ui;max-width:34rem;margin:3rem auto;padding:0 1rem}\
    blockquote{margin:1rem 0;padding:1rem;background:#eee;color:#111;white-space:pre-wrap}\
    button{font:inherit;padding:.6rem 2rem;color:#fff;border:0;border-radius:.3rem}\
    .yes{background:#17692f}.no{background:#a4161a}";

/// Escapes text for an HTML element or a quoted attribute.
fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut html, character| {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            other => html.push(other),
        }
        html
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_a_question_is_shown_as_text() {
        let question = r#"</blockquote><script>alert("1 & '2'")</script>"#;
        let body = Page::question(question, Decision::Approve).body;
        assert!(!body.contains("<script") && body.matches("</blockquote>").count() == 1, "{body}");
        assert!(body.contains("&lt;script&gt;alert(&quot;1 &amp; &#39;2&#39;&quot;)"), "{body}");
    }
}
