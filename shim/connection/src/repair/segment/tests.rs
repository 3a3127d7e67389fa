use super::*;

#[test]
fn a_packet_checks() {
    for (from, to, length) in [
        ("10.9.0.2:4000", "10.1.0.2:80", 40),
        ("[::ffff:10.9.0.2]:4000", "[::ffff:10.1.0.2]:80", 40),
        ("[fd00:9::2]:4000", "[fd00:1::2]:80", 60),
    ] {
        let segment = Segment {
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            sequence: 0x0102_0304,
            acknowledges: 0xfffe_fdfc,
            says: Says::Finished,
            window: 512,
        };
        let packet = segment.packet().unwrap();
        assert_eq!(packet.len(), length);
        let header = &packet[length - 20..];
        assert_eq!(header[13], 0x11);
        assert_eq!(&header[..4], [15, 160, 0, 80]);
        let addresses = if length == 40 {
            &packet[12..20]
        } else {
            &packet[8..40]
        };
        // Over everything including itself the sum is zero.
        let all = [addresses, &[0, 0, 0, 20, 0, 6], header].concat();
        assert_eq!(checksum(&all), 0);
    }
}

#[test]
fn families_do_not_mix() {
    let segment = Segment {
        from: "10.9.0.2:1".parse().unwrap(),
        to: "[fd00::1]:1".parse().unwrap(),
        sequence: 0,
        acknowledges: 0,
        says: Says::Acknowledged,
        window: 0,
    };
    assert!(segment.packet().is_err());
}

#[test]
fn the_checksum_is_that_of_the_rfc() {
    // RFC 1071, section 3.
    assert_eq!(
        checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]),
        !0xddf2
    );
}
