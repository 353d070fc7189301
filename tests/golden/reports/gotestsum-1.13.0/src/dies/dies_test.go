package dies

import "testing"

func TestDies(t *testing.T) { panic("boom") }
