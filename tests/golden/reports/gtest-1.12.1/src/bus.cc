#include <gtest/gtest.h>
#include <stdexcept>

TEST(Bus, Ok) {}
TEST(Bus, TwoFailures) {
  EXPECT_EQ(1, 2) << "first \x1b[31mred\x1b[0m";
  EXPECT_EQ(3, 4) << "second";
}
TEST(Bus, Throws) { throw std::runtime_error("boom"); }
TEST(Bus, DISABLED_Later) {}
TEST(Bus, Skips) { GTEST_SKIP() << "no hardware"; }
TEST(Bus, Latin1) { EXPECT_STREQ("Pr\xfc" "fstand", "x"); }

class Inst : public testing::TestWithParam<int> {};
TEST_P(Inst, Even) { EXPECT_EQ(GetParam() % 2, 0); }
INSTANTIATE_TEST_SUITE_P(All, Inst, testing::Values(0, 1));

class Broken : public testing::Test {
 protected:
  static void SetUpTestSuite() { FAIL() << "no power"; }
};
TEST_F(Broken, Case) {}
