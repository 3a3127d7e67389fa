use super::*;

#[test]
fn what_is_written_in_pieces_is_read_whole() {
    let (to_network, mut network) = mpsc::channel(64);
    let written = Arc::new(AtomicU64::new(0));
    let mut writer = BlockWriter::new(to_network, written.clone());
    let data: Vec<u8> = (0..BLOCK * 3 + 17).map(|at| (at % 251) as u8).collect();
    for piece in data.chunks(70_001) {
        writer.write_all(piece).unwrap();
    }
    let digest = writer.end(RoundEnd::default()).unwrap();
    assert_eq!(digest, *blake3::hash(&data).as_bytes());
    assert_eq!(written.load(Ordering::Relaxed), data.len() as u64);

    let (to_reader, reader) = mpsc::channel(64);
    let mut ended = false;
    while let Some(block) = network.blocking_recv() {
        let block = block.unwrap();
        ended |= block.end.is_some();
        to_reader.blocking_send(Ok(block.data)).unwrap();
    }
    assert!(ended);
    drop(to_reader);
    let mut read = vec![];
    BlockReader::new(reader).read_to_end(&mut read).unwrap();
    assert_eq!(read, data);
}

#[test]
fn a_receiver_that_is_gone_stops_the_writer() {
    let (sender, receiver) = mpsc::channel(1);
    drop(receiver);
    let mut writer = BlockWriter::new(sender, Arc::default());
    writer.write_all(b"x").unwrap();
    let error = writer.flush().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}
