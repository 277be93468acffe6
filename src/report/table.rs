//! CSV tables, by the crate `csv`: rows of records with chosen columns, and back as maps. What the columns mean stands with each file (`study`, `metrics`).

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::{Error, Result};

fn defect(e: impl std::fmt::Display) -> Error {
    Error::bad_setting("csv", e.to_string(), "this is a defect, please report it")
}

/// Rows as CSV with these columns; fields of a row that are not among them are left out, an unknown is an empty cell.
///
/// # Errors
/// [`Error::BadSetting`] for a row that is no record, which is a defect.
pub fn csv<T: Serialize>(columns: &[&str], rows: &[T]) -> Result<String> {
    let mut table = Table::new(columns.iter().copied())?;
    for row in rows {
        let row = serde_json::to_value(row).map_err(defect)?;
        table.row(columns.iter().map(|column| match &row[*column] {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }))?;
    }
    table.text()
}

/// Rows of a CSV file with a header as maps by column. A row that is cut short has the columns it has: a file that someone has edited must not cost a report.
pub fn maps(text: &str) -> Vec<BTreeMap<String, String>> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(text.as_bytes());
    let Ok(head) = reader.headers().cloned() else { return Vec::new() };
    let map = |cells: csv::StringRecord| head.iter().zip(&cells).map(|(k, v)| (k.into(), v.into())).collect();
    // What is read from memory, and is UTF-8, is read to its end.
    reader.records().map_while(std::result::Result::ok).map(map).collect()
}

/// A table as it is written, cell by cell.
pub struct Table(csv::Writer<Vec<u8>>);

impl Table {
    /// A table with these columns.
    ///
    /// # Errors
    /// As [`Table::row`].
    pub fn new<'a>(columns: impl IntoIterator<Item = &'a str>) -> Result<Table> {
        let mut table = Table(csv::WriterBuilder::new().from_writer(Vec::new()));
        table.row(columns)?;
        Ok(table)
    }

    /// Adds a row.
    ///
    /// # Errors
    /// [`Error::BadSetting`] where it has more or fewer cells than there are columns, which is a defect.
    pub fn row<T: AsRef<[u8]>>(&mut self, cells: impl IntoIterator<Item = T>) -> Result<()> {
        self.0.write_record(cells).map_err(defect)
    }

    /// The whole table.
    ///
    /// # Errors
    /// None that memory does not give.
    pub fn text(self) -> Result<String> {
        let bytes = self.0.into_inner().map_err(defect)?;
        String::from_utf8(bytes).map_err(defect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Row {
        method: &'static str,
        ratio: Option<f64>,
        seed: u64,
        reason: &'static str,
        accuracy: f64,
    }

    #[test]
    fn unknown_is_empty_and_text_is_quoted() {
        let row = Row { method: "snip", ratio: None, seed: 2, reason: "a, \"b\"", accuracy: 0.5 };
        let text = csv(&["method", "ratio", "seed", "reason", "accuracy"], &[row]).unwrap();
        assert_eq!(text, "method,ratio,seed,reason,accuracy\nsnip,,2,\"a, \"\"b\"\"\",0.5\n");
        let rows = maps(&text);
        assert_eq!((rows.len(), rows[0]["reason"].as_str(), rows[0]["ratio"].as_str()), (1, "a, \"b\"", ""));
        assert!(maps("").is_empty());
    }

    #[test]
    fn lines_cut_short_keep_what_they_have() {
        let rows = maps("phase,joules\nsearch,2.5\ntra");
        assert_eq!(rows[0]["joules"], "2.5");
        assert_eq!(rows[1].get("joules"), None);
    }
}
