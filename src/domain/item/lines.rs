//! Where the fields of an item stand in the file it was read from.

use super::field::Field;

/// Lines of a source, counted from 1.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lines {
    fields: Vec<(Field, usize)>,
    body: Option<usize>,
}

/// Where a field stands, or should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    At(usize),
    /// It is not there; it belongs with the fields, the last of which stands here.
    After(usize),
}

impl Lines {
    pub(super) const fn new(fields: Vec<(Field, usize)>, body: Option<usize>) -> Self {
        Self { fields, body }
    }

    /// The place of a field, by its stable name; `None` where there is nothing to go by.
    #[must_use]
    pub fn place(&self, field: &str) -> Option<Place> {
        let found = Field::find(field)?;
        let line = |field: Field| self.fields.iter().find(|(f, _)| *f == field).map(|(_, line)| *line);
        // A span may stand where a time is asked for; a title may be the body's heading.
        let other = match found {
            Field::ExpiresIn => line(Field::ExpiresAt),
            Field::Body | Field::Title => self.body,
            _ => None,
        };
        let last = self.fields.iter().map(|(_, line)| *line).max();
        line(found).or(other).map(Place::At).or(last.map(Place::After))
    }
}
