package keymeter

import (
	"testing"
	"time"
)

func TestBackoffSpan(t *testing.T) {
	t.Parallel()
	b := backoff{100 * time.Millisecond, time.Second}
	want := []time.Duration{100, 200, 400, 800, 1000, 1000}
	for try, span := range want {
		if got := b.span(try); got != span*time.Millisecond {
			t.Errorf("try %d: want %v, got %v", try, span*time.Millisecond, got)
		}
	}
	if got := (backoff{time.Minute, time.Second}).span(0); got != time.Second {
		t.Errorf("want the most, got %v", got)
	}
	if got := (backoff{1, 1 << 62}).span(1000); got != 1<<62 {
		t.Errorf("want the most and no overflow, got %v", got)
	}
}
