use std::io::{Cursor, Seek as _};

use super::*;
use crate::archive::Archive;
use crate::archive::tests::{archive, header};

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

fn passphrase(text: &str) -> Key {
    Key::passphrase(Cursor::new(text)).unwrap()
}

/// An identity file and its recipient.
fn pair() -> (Key, String) {
    use age::secrecy::ExposeSecret as _;
    let identity = x25519::Identity::generate();
    let text = format!(
        "# created: today\n\n{}\n",
        identity.to_string().expose_secret()
    );
    let key = Key::identities(Cursor::new(text)).unwrap();
    (key, identity.to_public().to_string())
}

/// An archive that is encrypted.
fn sealed(protection: &Protection) -> Vec<u8> {
    let mut sink = Sink::new(tempfile::tempfile().unwrap(), protection).unwrap();
    sink.write_all(&archive(&header())).unwrap();
    let mut file = sink.finish().unwrap();
    file.rewind().unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

fn survey(bytes: &[u8], key: Option<&Key>) -> Result<(), ArchiveError> {
    let contents = Archive::new(Source::new(file(bytes), key)?)?.survey()?;
    assert_eq!(contents.header, header());
    Ok(())
}

#[test]
fn who_has_the_passphrase_reads_it() {
    let bytes = sealed(&Protection::passphrase(Cursor::new("open sesame\nnot this")).unwrap());
    assert!(bytes.starts_with(MAGIC));
    survey(&bytes, Some(&passphrase("open sesame\r\n"))).unwrap();
    let wrong = survey(&bytes, Some(&passphrase("open sesam")));
    assert!(matches!(wrong, Err(ArchiveError::WrongKey)), "{wrong:?}");
    let none = survey(&bytes, None);
    assert!(matches!(none, Err(ArchiveError::Encrypted)), "{none:?}");
    let other = survey(&bytes, Some(&pair().0));
    let text = other.unwrap_err().to_string();
    assert!(text.contains("--passphrase-file"), "{text}");
}

#[test]
fn each_of_its_recipients_reads_it() {
    let ((one, first), (two, second), (three, _)) = (pair(), pair(), pair());
    let bytes = sealed(&Protection::Recipients(vec![first, second]));
    survey(&bytes, Some(&one)).unwrap();
    survey(&bytes, Some(&two)).unwrap();
    let wrong = survey(&bytes, Some(&three));
    assert!(matches!(wrong, Err(ArchiveError::WrongKey)), "{wrong:?}");
    let text = survey(&bytes, Some(&passphrase("x")))
        .unwrap_err()
        .to_string();
    assert!(text.contains("--identity"), "{text}");
}

#[test]
fn a_file_that_is_not_encrypted_is_not_the_one_that_the_key_is_for() {
    let bytes = archive(&header());
    survey(&bytes, None).unwrap();
    let wrong = survey(&bytes, Some(&pair().0));
    assert!(
        matches!(wrong, Err(ArchiveError::NotEncrypted)),
        "{wrong:?}"
    );
}

#[test]
fn no_cut_and_no_changed_byte_passes() {
    let (key, recipient) = pair();
    let whole = sealed(&Protection::Recipients(vec![recipient]));
    survey(&whole, Some(&key)).unwrap();
    for cut in 0..whole.len() {
        assert!(survey(&whole[..cut], Some(&key)).is_err(), "cut at {cut}");
    }
    for at in 0..whole.len() {
        for bit in [1, 0x80] {
            let mut changed = whole.clone();
            changed[at] ^= bit;
            assert!(survey(&changed, Some(&key)).is_err(), "byte {at}");
        }
    }
    for more in [1, 100_000] {
        let longer = [&whole[..], &vec![0; more]].concat();
        assert!(survey(&longer, Some(&key)).is_err());
    }
}

/// A cut between age's chunks of 64 KiB: nothing of the last one is there.
#[test]
fn whole_chunks_are_no_whole_file() {
    let (key, recipient) = pair();
    let sink = Sink::new(
        tempfile::tempfile().unwrap(),
        &Protection::Recipients(vec![recipient]),
    );
    let mut sink = sink.unwrap();
    sink.write_all(&vec![7; 200_000]).unwrap();
    let mut made = sink.finish().unwrap();
    made.rewind().unwrap();
    let mut bytes = Vec::new();
    made.read_to_end(&mut bytes).unwrap();
    let header = bytes.len() - 200_000 - 4 * 16;
    let two = header + 2 * (65_536 + 16);
    let mut cut = Source::new(file(&bytes[..two]), Some(&key)).unwrap();
    let mut read = Vec::new();
    let error = cut.read_to_end(&mut read).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    // Two chunks that change places.
    let first = header..header + 65_552;
    let swapped = [
        &bytes[..header],
        &bytes[first.end..two],
        &bytes[first],
        &bytes[two..],
    ]
    .concat();
    let mut swapped = Source::new(file(&swapped), Some(&key)).unwrap();
    assert!(swapped.read(&mut [0; 16]).is_err());
}

#[test]
fn a_file_cannot_ask_for_much() {
    // A header that does not end.
    let mut endless = b"age-encryption.org/v1\n".to_vec();
    while endless.len() < 1 << 20 {
        endless.extend(b"-> X25519 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n");
        endless.extend(b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n");
    }
    let text = survey(&endless, Some(&pair().0)).unwrap_err().to_string();
    assert!(text.contains("no end within 65536 bytes"), "{text}");
    // A passphrase that takes terabytes of memory.
    let secret = Protection::passphrase(Cursor::new("much")).unwrap();
    let made = String::from_utf8_lossy(&sealed(&secret)[..200]).into_owned();
    let line = made.lines().nth(1).unwrap();
    let (begin, work) = line.rsplit_once(' ').unwrap();
    assert_eq!(work, WORK.to_string());
    for work in ["19", "40", "63", "99", "0", "-1", "18446744073709551616"] {
        let asking = made.replace(line, &format!("{begin} {work}"));
        let error = survey(asking.as_bytes(), Some(&passphrase("much"))).unwrap_err();
        assert!(matches!(error, ArchiveError::Sealing(_)), "{work}: {error}");
    }
}

#[test]
fn another_version_and_noise_are_refused() {
    let (key, _) = pair();
    for text in [
        "age-encryption.org/v9\n--- AAAA\n",
        "age-encryption.org/v1\n--- AAAA\n",
        "age-encryption.org/v1\n-> X25519\n--- \n",
        "age-encryption.org/v1\n-> scrypt x 18\n\n--- AAAA\n",
    ] {
        assert!(survey(text.as_bytes(), Some(&key)).is_err(), "{text}");
        assert!(
            survey(text.as_bytes(), Some(&passphrase("x"))).is_err(),
            "{text}"
        );
    }
    let mut state = 1_u64;
    for length in 0..500 {
        let mut noise = b"age-encryption.org/v1\n--- ".to_vec();
        noise.extend((0..length).map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        }));
        assert!(survey(&noise, Some(&key)).is_err());
    }
}

#[test]
fn keys_are_read_with_bounds() {
    let key = |text: &str| Key::identities(Cursor::new(text.to_owned()));
    assert!(matches!(key(""), Err(KeyError::NoIdentity)));
    assert!(matches!(key("# only this"), Err(KeyError::NoIdentity)));
    assert!(matches!(key("age1abc"), Err(KeyError::NoIdentity)));
    let endless = Key::identities(std::io::repeat(b'\n'));
    assert!(matches!(endless, Err(KeyError::Large)));
    let noise = Key::passphrase(Cursor::new([0xff, 0xfe]));
    assert!(matches!(noise, Err(KeyError::NotText)));
    let empty = Key::passphrase(Cursor::new("\nsecond line"));
    assert!(matches!(empty, Err(KeyError::Empty)));
    let check = |list: Vec<String>| Protection::Recipients(list).check();
    assert!(matches!(check(vec![]), Err(KeyError::Recipients(0))));
    let many = vec![pair().1; 65];
    assert!(matches!(check(many), Err(KeyError::Recipients(65))));
    let second = check(vec![pair().1, "AGE-SECRET-KEY-1SECRET".to_owned()]);
    let text = second.unwrap_err().to_string();
    assert!(
        text.contains("recipient 2") && !text.contains("SECRET"),
        "{text}"
    );
}

#[test]
fn no_secret_is_shown() {
    let protection = Protection::passphrase(Cursor::new("sesame")).unwrap();
    let shown = format!("{protection:?} {:?} {:?}", passphrase("sesame"), pair().0);
    assert!(
        !shown.contains("sesame") && !shown.contains("AGE-"),
        "{shown}"
    );
}
