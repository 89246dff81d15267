package billing

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keymeter/keymeter/internal/fault"
)

func TestCents(t *testing.T) {
	t.Parallel()
	for micros, want := range map[int64]int64{
		0: 0, 1: 0, 4999: 0, 5000: 1, 5001: 1, 14999: 1, 15000: 2, 800 * 50000: 4000, math.MaxInt64 - 5000: 922337203685477,
	} {
		require.Equal(t, want, cents(micros), "%d micro-dollars", micros)
	}
}

func TestDollars(t *testing.T) {
	t.Parallel()
	for micros, want := range map[int64]string{1: "0.000001", 800: "0.0008", 1_000_000: "1", 1_500_000: "1.5", 10_000_000: "10"} {
		require.Equal(t, want, dollars(micros))
	}
}

func TestReclaimable(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		payment Payment
		want    int64
	}{
		"nothing":            {Payment{Credits: 1000, AmountCents: 100}, 0},
		"a third":            {Payment{Credits: 1000, AmountCents: 300, RefundedCents: 100}, 333},
		"all":                {Payment{Credits: 1000, AmountCents: 300, RefundedCents: 300}, 1000},
		"a dispute":          {Payment{Credits: 1000, AmountCents: 300, Disputed: true}, 1000},
		"a refund, disputed": {Payment{Credits: 1000, AmountCents: 300, RefundedCents: 100, Disputed: true}, 1000},
		"the most":           {Payment{Credits: 1e15, AmountCents: 99_999_999, RefundedCents: 99_999_998}, 999_999_989_999_999},
		"free of charge":     {Payment{Credits: 1000}, 0},
	} {
		require.Equal(t, c.want, reclaimable(c.payment), name)
	}
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	for attempts, want := range map[int]time.Duration{
		1: 5 * time.Second, 2: 10 * time.Second, 6: 160 * time.Second, 7: 5 * time.Minute, 1_000_000: 5 * time.Minute,
	} {
		require.Equal(t, want, backoff(attempts, ErrNotConfigured))
	}
	asked := &fault.Error{Code: "billing_unavailable", RetryAfter: time.Hour}
	require.Equal(t, time.Hour, backoff(1, asked))
}
