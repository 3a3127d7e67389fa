//! The text that is added to a configuration file, between two marks.

use toml_edit::{DocumentMut, Item, Value};

use super::tree::{default_runtime, plugin, runtime};
use super::{HANDLER, Handler, POD_ANNOTATIONS, RUNTIME_TYPE};

const BEGIN: &str =
    "# mycedrive: begin (mycedrive-installer replaces what is between these marks)\n";
const END: &str = "# mycedrive: end\n";

/// Settings of a runtime that its pods must also have under our handler.
const INHERITED: [&str; 7] = [
    "base_runtime_spec",
    "cgroup_writable",
    "cni_conf_dir",
    "cni_max_conf_num",
    "privileged_without_host_devices",
    "privileged_without_host_devices_all_devices_allowed",
    "snapshotter",
];

/// What the handler takes over from the node's `runc` runtime.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inherited {
    settings: Vec<(String, String)>,
    options: Vec<(String, String)>,
}

impl Inherited {
    /// Reads the settings of `runc`, or of the default runtime where it is of
    /// runc's type. What says the same as containerd's default is left out.
    pub fn from(doc: &DocumentMut, version: u32) -> Self {
        let of_runc_type = |name: &str| {
            runtime(doc, version, name).filter(|table| {
                let kind = table.get("runtime_type").and_then(Item::as_str);
                kind.is_none_or(|kind| kind.is_empty() || kind == "io.containerd.runc.v2")
            })
        };
        let Some(table) =
            of_runc_type("runc").or_else(|| of_runc_type(default_runtime(doc, version)))
        else {
            return Self::default();
        };
        let settings = INHERITED
            .iter()
            .filter_map(|key| Some(((*key).to_owned(), said(table.get(key)?)?)))
            .collect();
        let options = table
            .get("options")
            .and_then(Item::as_table_like)
            .map(|options| {
                options
                    .iter()
                    .filter_map(|(key, item)| Some((bare(key)?, said(item)?)))
                    .collect()
            })
            .unwrap_or_default();
        Self { settings, options }
    }

    /// One option, for templates whose values are not known yet.
    pub fn option(key: &str, value: &str) -> Self {
        Self {
            settings: Vec::new(),
            options: vec![(key.to_owned(), value.to_owned())],
        }
    }
}

/// A value's text, unless it is an empty or zero default.
fn said(item: &Item) -> Option<String> {
    let value = item.as_value()?;
    let default = match value {
        Value::String(text) => text.value().is_empty(),
        Value::Integer(number) => *number.value() == 0,
        Value::Boolean(flag) => !flag.value(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    };
    (!default).then(|| value.clone().decorated("", "").to_string())
}

fn bare(key: &str) -> Option<String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    (!key.is_empty() && key.bytes().all(plain)).then(|| key.to_owned())
}

/// The tables of the handler. With `runc`, also the table of the default
/// runtime, which containerd 1.x would forget otherwise.
pub fn tables(version: u32, handler: &Handler, inherited: &Inherited, runc: bool) -> String {
    let runtimes = format!("plugins.\"{}\".containerd.runtimes", plugin(version));
    let mut lines = Vec::new();
    if runc {
        lines.extend([
            "# containerd 1.x forgets its default runtime once a file names another one."
                .to_owned(),
            format!("[{runtimes}.runc]"),
            "  runtime_type = \"io.containerd.runc.v2\"".to_owned(),
            String::new(),
        ]);
    }
    lines.push(format!("[{runtimes}.{HANDLER}]"));
    lines.push(format!("  runtime_type = \"{RUNTIME_TYPE}\""));
    if let Some(path) = &handler.runtime_path {
        lines.push(format!("  runtime_path = {}", Value::from(path.as_str())));
    }
    lines.push(format!("  pod_annotations = [\"{POD_ANNOTATIONS}\"]"));
    let set = |(key, value): &(String, String)| format!("  {key} = {value}");
    lines.extend(inherited.settings.iter().map(set));
    if !inherited.options.is_empty() {
        lines.push(String::new());
        lines.push(format!("  [{runtimes}.{HANDLER}.options]"));
        lines.extend(
            inherited
                .options
                .iter()
                .map(|option| format!("  {}", set(option))),
        );
    }
    lines.join("\n") + "\n"
}

/// A file without our block, in two parts: what is before it and after it.
#[derive(Debug, PartialEq, Eq)]
pub struct Parts<'t> {
    /// Text before the block.
    pub head: &'t str,
    /// Text after the block.
    pub tail: &'t str,
    /// Whether there was a block.
    pub found: bool,
}

/// Finds our block in a file.
pub fn split(text: &str) -> Parts<'_> {
    let begin = text.find(BEGIN);
    let found = begin.and_then(|begin| {
        let end = text[begin..].find(END)? + begin + END.len();
        Some((begin, end))
    });
    match found {
        Some((begin, end)) => Parts {
            head: &text[..begin],
            tail: &text[end..],
            found: true,
        },
        None => Parts {
            head: text,
            tail: "",
            found: false,
        },
    }
}

/// Puts a block where the old one was, or at the end.
pub fn place(parts: &Parts<'_>, tables: &str) -> String {
    let Parts { head, tail, found } = parts;
    let gap = match () {
        () if *found || head.is_empty() => "",
        () if head.ends_with('\n') => "\n",
        () => "\n\n",
    };
    format!("{head}{gap}{BEGIN}{tables}{END}{tail}")
}

/// The file without our block and the empty line before it.
pub fn remove(text: &str) -> Option<String> {
    let parts = split(text);
    parts.found.then(|| {
        let head = parts
            .head
            .strip_suffix("\n\n")
            .map_or_else(|| parts.head.to_owned(), |head| format!("{head}\n"));
        head + parts.tail
    })
}
