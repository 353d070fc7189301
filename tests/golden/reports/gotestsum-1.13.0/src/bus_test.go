package bus

import (
	"os"
	"testing"
)

func TestOK(t *testing.T) {}

func TestBad(t *testing.T) { t.Error("wrong frame"); t.Error("and late") }

func TestFlaky(t *testing.T) {
	if _, err := os.Stat("again"); err != nil {
		os.WriteFile("again", nil, 0o600)
		t.Fatal("first time")
	}
}

func TestSkip(t *testing.T) { t.Skip("no hardware") }

func TestSub(t *testing.T) {
	t.Run("a/b c", func(t *testing.T) {})
}
