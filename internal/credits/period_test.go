package credits

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// instant reads a time such as "2024-01-31 15:04:05".
func instant(t testing.TB, s string) time.Time {
	t.Helper()
	at, err := time.Parse(time.DateTime, s)
	require.NoError(t, err)
	return at
}

func TestAddMonths(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, anchor string
		n            int
		want         string
	}{
		{"none", "2026-01-31 10:00:00", 0, "2026-01-31 10:00:00"},
		{"a day that the month has", "2026-01-15 10:00:00", 1, "2026-02-15 10:00:00"},
		{"the 31st becomes the 28th", "2026-01-31 10:00:00", 1, "2026-02-28 10:00:00"},
		{"and comes back", "2026-01-31 10:00:00", 2, "2026-03-31 10:00:00"},
		{"the 31st becomes the 30th", "2026-01-31 10:00:00", 3, "2026-04-30 10:00:00"},
		{"the 31st in a leap year", "2024-01-31 10:00:00", 1, "2024-02-29 10:00:00"},
		{"the 30th in February", "2026-11-30 00:00:00", 3, "2027-02-28 00:00:00"},
		{"the 29th in a short February", "2024-01-29 23:59:59", 13, "2025-02-28 23:59:59"},
		{"from a leap day", "2024-02-29 00:00:00", 12, "2025-02-28 00:00:00"},
		{"from a leap day to a leap day", "2024-02-29 00:00:00", 48, "2028-02-29 00:00:00"},
		{"a leap day that 2100 lacks", "2096-02-29 00:00:00", 48, "2100-02-28 00:00:00"},
		{"into the next year", "2026-12-31 00:00:00", 2, "2027-02-28 00:00:00"},
		{"many years", "2026-08-31 12:00:00", 1200, "2126-08-31 12:00:00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, instant(t, c.want), addMonths(instant(t, c.anchor), c.n))
		})
	}
	t.Run("months are those of UTC", func(t *testing.T) {
		t.Parallel()
		// 1 March in Auckland is still 28 February in UTC, where a month later is the 28th again.
		auckland := time.FixedZone("NZDT", 13*60*60)
		anchor := time.Date(2026, 3, 1, 1, 0, 0, 0, auckland)
		require.Equal(t, instant(t, "2026-03-28 12:00:00"), addMonths(anchor, 1))
	})
}

func TestMonthsUntil(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, anchor, at string
		want             int
	}{
		{"the anchor itself", "2026-01-31 10:00:00", "2026-01-31 10:00:00", 0},
		{"before the anchor", "2026-01-31 10:00:00", "2026-01-31 09:59:59", 0},
		{"months before the anchor", "2026-05-31 10:00:00", "2025-01-01 00:00:00", 0},
		{"a second too early", "2026-01-15 10:00:00", "2026-02-15 09:59:59", 0},
		{"on the second", "2026-01-15 10:00:00", "2026-02-15 10:00:00", 1},
		{"the 31st, on the 28th", "2026-01-31 10:00:00", "2026-02-28 10:00:00", 1},
		{"the 31st, before the 28th is over", "2026-01-31 10:00:00", "2026-02-28 09:59:59", 0},
		{"the 31st, on the 30th of a longer month", "2026-01-31 10:00:00", "2026-03-30 10:00:00", 1},
		{"the 31st, on the next 31st", "2026-01-31 10:00:00", "2026-03-31 10:00:00", 2},
		{"the 31st, on 28 February of a leap year", "2024-01-31 00:00:00", "2024-02-28 23:59:59", 0},
		{"the 31st, on a leap day", "2024-01-31 00:00:00", "2024-02-29 00:00:00", 1},
		{"across a year", "2025-12-31 00:00:00", "2026-01-30 23:59:59", 0},
		{"a leap day's first birthday", "2024-02-29 00:00:00", "2025-02-28 00:00:00", 12},
		{"many years", "2026-08-31 12:00:00", "2126-08-31 12:00:00", 1200},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, monthsUntil(instant(t, c.anchor), instant(t, c.at)))
		})
	}
}

// anInstant draws times of all days, and more of those at the ends of months.
func anInstant() *rapid.Generator[time.Time] {
	return rapid.Custom(func(t *rapid.T) time.Time {
		year, month := rapid.IntRange(1999, 2105).Draw(t, "year"), rapid.IntRange(1, 12).Draw(t, "month")
		day := rapid.OneOf(rapid.IntRange(1, 28), rapid.IntRange(28, 31)).Draw(t, "day")
		seconds := rapid.OneOf(rapid.SampledFrom([]int{0, 24*60*60 - 1}), rapid.IntRange(0, 24*60*60-1)).Draw(t, "seconds")
		return time.Date(year, time.Month(month), day, 0, 0, seconds, 0, time.UTC)
	})
}

// The periods of a cycle cover time without gaps and overlaps: each instant after the anchor lies in exactly one.
func TestPeriodsCoverTime(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		anchor, at := anInstant().Draw(t, "anchor"), anInstant().Draw(t, "at")
		n := monthsUntil(anchor, at)
		if at.Before(anchor) {
			require.Zero(t, n)
			return
		}
		start, end := addMonths(anchor, n), addMonths(anchor, n+1)
		require.False(t, at.Before(start), "%s before %s", at, start)
		require.True(t, at.Before(end), "%s not before %s", at, end)
		// A boundary belongs to the period that it begins.
		require.Equal(t, n, monthsUntil(anchor, start))
		require.Equal(t, n+1, monthsUntil(anchor, end))
		require.Equal(t, n, monthsUntil(anchor, end.Add(-time.Nanosecond)))
	})
}

// A shifted instant keeps its time of day and its day, or the month's last if it has no such day.
func TestAddMonthsKeepsTheDay(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		anchor, n := anInstant().Draw(t, "anchor"), rapid.IntRange(0, 1000).Draw(t, "n")
		got := addMonths(anchor, n)
		index := int(anchor.Month()) - 1 + n
		require.Equal(t, anchor.Year()+index/12, got.Year())
		require.Equal(t, time.Month(index%12+1), got.Month())
		require.Equal(t, anchor.Format(time.TimeOnly), got.Format(time.TimeOnly))
		if got.Day() != anchor.Day() {
			require.Less(t, got.Day(), anchor.Day())
			require.Equal(t, 1, got.AddDate(0, 0, 1).Day(), "the month's last day")
		}
	})
}
