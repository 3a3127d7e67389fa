use super::*;

#[test]
fn a_seed_names_one_script_that_ends_with_the_tasks_removal() {
    assert_eq!(generate(7), generate(7));
    assert_ne!(generate(7), generate(8));
    for seed in 0..200 {
        let script = generate(seed);
        assert_eq!(script.steps.last(), Some(&Step::Delete(Who::Init)));
    }
}

#[test]
fn every_kind_of_call_is_generated() {
    let mut kinds: Vec<String> = (0..200)
        .flat_map(|seed| generate(seed).steps)
        .map(|step| step.to_string().split(' ').next().unwrap().to_owned())
        .collect();
    kinds.sort();
    kinds.dedup();
    assert_eq!(kinds.len(), 14, "{kinds:?}");
}
