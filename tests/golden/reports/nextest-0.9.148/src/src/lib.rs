#[cfg(test)]
mod bus {
    #[test]
    fn ok() {}

    #[test]
    fn bad() {
        assert_eq!(1, 2, "wrong frame");
    }

    #[test]
    fn flaky() {
        if !std::path::Path::new("again").exists() {
            std::fs::write("again", "").unwrap();
            panic!("first time");
        }
    }

    #[test]
    #[ignore = "no hardware"]
    fn ignored() {}

    #[test]
    fn dies() {
        std::process::abort();
    }
}
