//! External ids, citizens' numbers and birth dates.

use jiff::civil::Date;

use super::{fold, masked};

/// A citizen's number of 18 characters (GB 11643-1999, check character by
/// ISO 7064 MOD 11-2); one of 15 digits is brought to this form.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct IdNumber(String);

impl std::fmt::Debug for IdNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&masked(&self.0))
    }
}

impl IdNumber {
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut number: String = fold(text).chars().filter(|c| !c.is_whitespace()).collect();
        number.make_ascii_uppercase();
        if !number.is_ascii() {
            return None;
        }
        if number.len() == 15 {
            number.insert_str(6, "19");
            number.push(check_character(&number)?);
        }
        let (body, check) = number.split_at_checked(17)?;
        let id = (check.len() == 1 && check.starts_with(check_character(body)?)).then(|| Self(number.clone()))?;
        id.born().map(|_| id)
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The birth date within it, as yyyymmdd; `None` when that is no date.
    #[must_use]
    pub fn born(&self) -> Option<i32> {
        parse_born(&self.0[6..14])
    }
}

fn check_character(body: &str) -> Option<char> {
    const WEIGHTS: [u32; 17] = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
    if body.len() != 17 {
        return None;
    }
    let sum = body.chars().zip(WEIGHTS).try_fold(0, |sum, (c, w)| Some(sum + c.to_digit(10)? * w))?;
    "10X98765432".chars().nth((sum % 11) as usize)
}

/// An external id in its one form: half-width, without spaces, uppercase, so that
/// an ID number hashes alike however it was typed.
#[must_use]
pub fn normal_ext(text: &str) -> Option<String> {
    let ext: String = fold(text).chars().filter(|c| !c.is_whitespace()).collect::<String>().to_uppercase();
    if ext.is_empty() {
        return None;
    }
    Some(IdNumber::parse(&ext).map_or(ext, |id| id.0))
}

/// A birth date as yyyymmdd from 1950-03-07, 1950/3/7, 1950.3.7, 1950年3月7日 or
/// 19500307; `None` when it is no day of the calendar.
#[must_use]
pub fn parse_born(text: &str) -> Option<i32> {
    let text = fold(text);
    // A spreadsheet's date cell comes with a time of midnight.
    let day = text.split([' ', 'T']).next().unwrap_or_default();
    let parts: Vec<&str> = day.split(['-', '/', '.', '年', '月', '日']).filter(|p| !p.is_empty()).collect();
    let (y, m, d) = match parts.as_slice() {
        [all] if all.len() == 8 && all.is_ascii() => (&all[..4], &all[4..6], &all[6..]),
        [y, m, d] if y.len() == 4 => (*y, *m, *d),
        _ => return None,
    };
    let date = Date::new(y.parse().ok()?, m.parse().ok()?, d.parse().ok()?).ok()?;
    let year = i32::from(date.year());
    (1850..=2200).contains(&year).then(|| year * 10_000 + i32::from(date.month()) * 100 + i32::from(date.day()))
}

/// The birth date that an age in years implies, as yyyymmdd: 1 January of the year
/// in which one turns that old, so that the age holds all through this year.
#[must_use]
pub fn born_of_age(text: &str, today: Date) -> Option<i32> {
    let folded = fold(text);
    let age: i32 = folded.trim_end_matches(['岁', '周']).parse().ok()?;
    (0..=130).contains(&age).then(|| (i32::from(today.year()) - age) * 10_000 + 101)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_numbers_carry_a_check_and_a_date() {
        // Made up: an area that does not exist and the sequence 001.
        let id = IdNumber::parse("99000019500307001x").or_else(|| {
            let body = "99000019500307001";
            IdNumber::parse(&format!("{body}{}", check_character(body).unwrap()))
        });
        let id = id.unwrap();
        assert_eq!(id.born(), Some(19_500_307));
        let mut wrong = id.as_str().to_owned();
        let last = wrong.pop().unwrap();
        wrong.push(if last == '1' { '2' } else { '1' });
        assert!(IdNumber::parse(&wrong).is_none());
        let old = format!("{}{}", &id.as_str()[..6], &id.as_str()[8..17]);
        assert_eq!(IdNumber::parse(&old).unwrap(), id);
        assert_eq!(normal_ext(&old).unwrap(), id.as_str());
    }
}
