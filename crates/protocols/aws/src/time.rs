//! The one form of time that signatures use: `20150830T123600Z`.

const MS_PER_DAY: i64 = 86_400_000;

/// Milliseconds since the epoch of `YYYYMMDDTHHMMSSZ`.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let (date, rest) = text.split_once('T')?;
    let clock = rest.strip_suffix('Z')?;
    let all_digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    if date.len() != 8 || clock.len() != 6 || !all_digits(date) || !all_digits(clock) {
        return None;
    }
    let number = |t: &str, from: usize, to: usize| t.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(date, 0, 4)?, number(date, 4, 6)?, number(date, 6, 8)?);
    let (h, m, s) = (number(clock, 0, 2)?, number(clock, 2, 4)?, number(clock, 4, 6)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || h > 23 || m > 59 || s > 60 {
        return None;
    }
    Some(days(year, month, day) * MS_PER_DAY + ((h * 60 + m) * 60 + s) * 1_000)
}

/// Days since 1970-01-01: years begin in March, so that the day that comes and goes is the last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_and_other_texts_are_not() {
        assert_eq!(parse("19700101T000000Z"), Some(0));
        assert_eq!(parse("20150830T123600Z"), Some(1_440_938_160_000));
        assert_eq!(parse("20000229T235959Z"), Some(951_868_799_000));
        for wrong in [
            "",
            "20150830T123600",
            "2015-08-30T12:36:00Z",
            "20151330T123600Z",
            "20150830T253600Z",
            "+0150830T123600Z",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
