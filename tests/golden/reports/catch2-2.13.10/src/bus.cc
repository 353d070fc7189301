#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
#include <stdexcept>

TEST_CASE("ok", "[bus]") { CHECK(true); }
TEST_CASE("two failures", "[bus]") {
  CHECK(1 == 2);
  CHECK(3 == 4);
}
TEST_CASE("throws", "[bus]") { throw std::runtime_error("boom"); }
TEST_CASE("sections", "[bus]") {
  SECTION("good") { CHECK(true); }
  SECTION("bad") { CHECK("Prüfstand" == std::string("x")); }
}
TEST_CASE("known", "[bus][!mayfail]") { CHECK(1 == 2); }
TEST_CASE("hidden", "[.]") { CHECK(false); }
