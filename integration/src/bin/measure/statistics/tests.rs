use super::Summary;

#[test]
fn of_ten_values() {
    let values: Vec<f64> = (1..=10).rev().map(f64::from).collect();
    let summary = Summary::of(&values).unwrap();
    assert_eq!(
        summary,
        Summary {
            median: 5.0,
            min: 1.0,
            p90: 9.0,
            max: 10.0
        }
    );
    assert_eq!(Summary::of(&[]), None);
}
