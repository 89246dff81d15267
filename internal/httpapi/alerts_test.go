package httpapi_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

type alerts struct {
	Percents []int
	Raised   []struct {
		Percent     int
		Used, Limit int64
	}
}

func (w *world) alerts(c customer) (raised []int) {
	w.t.Helper()
	var a alerts
	w.call("GET", "/v1/billing/alerts", nil, c.auth()).want(http.StatusOK, &a)
	for _, r := range a.Raised {
		raised = append(raised, r.Percent)
	}
	return raised
}

// Each threshold raises one alert in a period, with the usage that passed it.
func TestAlerts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.newCustomer()
	require.Empty(t, w.alerts(c))
	w.spend(c, "a", 1249).want(http.StatusOK)
	require.Empty(t, w.alerts(c))
	w.spend(c, "b", 1).want(http.StatusOK)
	require.Equal(t, []int{50}, w.alerts(c))
	w.spend(c, "c", 1250).want(http.StatusOK)
	require.Equal(t, []int{50, 80, 100}, w.alerts(c))

	set := func(percents any) response {
		return w.call("PUT", "/v1/billing/alerts", event{"percents": percents}, c.auth())
	}
	set([]int{90, 25}).want(http.StatusOK)
	require.Equal(t, []int{25, 50, 80, 90, 100}, w.alerts(c), "what has been passed is raised at once")
	set([]int{25, 25}).wantProblem(http.StatusBadRequest, "invalid_request")
	set([]int{0}).wantProblem(http.StatusBadRequest, "invalid_request")

	w.clock.Advance(32 * 24 * time.Hour)
	require.Empty(t, w.alerts(c))
	w.spend(c, "d", 625).want(http.StatusOK)
	require.Equal(t, []int{25}, w.alerts(c))
	var a alerts
	set(nil).want(http.StatusOK, &a)
	require.Equal(t, []int{50, 80, 100}, a.Percents)
}
