//! What was typed and what was answered, as text of a page.

use std::fmt::Write as _;

use anyhow::Result;
use mycedrive_integration::Node;

use super::HERE;
use crate::engine::Engine;

/// Longer answers are cut behind this line.
const LINES: usize = 32;
/// Longer lines are cut, in characters.
const WIDTH: usize = 180;
/// So much of an id is shown, as `crictl` does.
const ID: usize = 12;

/// The page so far.
#[derive(Default)]
pub struct Record {
    text: String,
    engine: Option<Engine>,
    in_block: bool,
}

impl Record {
    /// Begins a part.
    pub fn title(&mut self, engine: Engine, title: &str) {
        self.end_block();
        if self.engine != Some(engine) {
            let name = match engine {
                Engine::Criu => "CRIU",
                Engine::Dmtcp => "DMTCP",
                Engine::None => "No engine",
            };
            // Writing to a string does not fail.
            let _ = writeln!(self.text, "\n## {name}");
            self.engine = Some(engine);
        }
        let _ = writeln!(self.text, "\n### {title}");
    }

    /// A sentence between two blocks.
    pub fn say(&mut self, sentence: &str) {
        self.end_block();
        let _ = writeln!(self.text, "\n{sentence}");
    }

    /// Runs a command in a shell of the node and writes down what it said and, if it failed, its code.
    /// Answers with standard output.
    pub fn typed(&mut self, node: &Node, command: &str) -> Result<String> {
        if !self.in_block {
            self.text.push_str("\n```text\n");
            self.in_block = true;
        }
        let script = format!("cd {HERE}; ctr() {{ command ctr -n k8s.io \"$@\"; }}; {command}");
        let output = node.exec(&["bash", "-c", &script])?;
        let _ = writeln!(self.text, "{}# {}", node.name(), shown(command, usize::MAX));
        let all = format!("{}\n{}", output.stdout, output.stderr);
        let lines: Vec<&str> = all.lines().filter(|line| !line.trim().is_empty()).collect();
        for line in lines.iter().take(LINES) {
            let _ = writeln!(self.text, "{}", shown(line, WIDTH));
        }
        if lines.len() > LINES {
            let _ = writeln!(self.text, "… {} more lines", lines.len() - LINES);
        }
        if output.code != 0 {
            let _ = writeln!(self.text, "[exit code {}]", output.code);
        }
        println!("{command}: {}", output.code);
        Ok(output.stdout.trim().to_owned())
    }

    fn end_block(&mut self) {
        if self.in_block {
            self.text.push_str("```\n");
            self.in_block = false;
        }
    }

    /// The whole text.
    pub fn end(mut self) -> String {
        self.end_block();
        self.text
    }
}

/// A line without control sequences, with short ids, and not longer than `width`.
fn shown(line: &str, width: usize) -> String {
    let line = line.replace("\u{1b}[2J\u{1b}[H", "");
    let mut text = String::new();
    for word in line.split_inclusive(|c: char| !c.is_ascii_hexdigit()) {
        let digits = word.trim_end_matches(|c: char| !c.is_ascii_hexdigit());
        if digits.len() == 64 {
            text.push_str(&digits[..ID]);
            text.push('…');
            text.push_str(&word[digits.len()..]);
        } else {
            text.push_str(word);
        }
    }
    let text = text.trim_end();
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn ids_are_short_and_lines_are_cut() {
        let id = "ab".repeat(32);
        assert_eq!(
            shown(&format!("rm {id}; next"), 99),
            "rm abababababab…; next"
        );
        assert_eq!(shown("abcdef", 4), "abc…");
        assert_eq!(shown("\u{1b}[2J\u{1b}[Hhead  ", 99), "head");
    }
}
