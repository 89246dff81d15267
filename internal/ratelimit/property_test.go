package ratelimit

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/keymeter/keymeter/internal/testkit"
)

// model is what a window may and must allow, told from calls and answers alone.
type model struct {
	limit, highest           int32 // highest of the window
	changed, raised, bounced bool  // in the window; bounced is raised and then lowered
	allowed, returned        int64 // allowed is net of what was returned
	tokens                   []held
	start                    time.Time
}

type held struct {
	replica int
	token   Token
}

// Any sequence of calls, returns, sweeps, changes of the limit and ends of windows keeps every window within its limit,
// and refuses only what the chunks of other replicas can explain.
func TestWindowsKeepTheirLimit(t *testing.T) {
	t.Parallel()
	clock := testkit.NewClock(midWindow())
	replicas := newReplicas(t, 3, clock.Now)
	var cases atomic.Int64
	rapid.Check(t, func(rt *rapid.T) {
		subject := fmt.Sprintf("key_%d", cases.Add(1))
		m := &model{}
		m.limit = rapid.Int32Range(1, 90).Draw(rt, "limit")
		m.begin(clock.Now())
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			i := rapid.IntRange(0, 2).Draw(rt, "replica")
			switch rapid.IntRange(0, 19).Draw(rt, "step") {
			case 0:
				clock.Advance(time.Duration(rapid.Int64Range(0, int64(40*time.Second)).Draw(rt, "by")))
				if now := clock.Now(); !now.Truncate(time.Minute).Equal(m.start) {
					m.begin(now)
				}
			case 1:
				m.change(rapid.Int32Range(1, 90).Draw(rt, "to"))
			case 2:
				require.NoError(rt, replicas[i].Sweep(t.Context()))
			case 3, 4, 5:
				m.giveBack(replicas, rapid.IntRange(0, 1000).Draw(rt, "token"))
			default:
				m.call(rt, i, replicas[i], subject, rapid.IntRange(1, 12).Draw(rt, "calls"))
			}
		}
	})
}

func (m *model) begin(now time.Time) {
	*m = model{limit: m.limit, highest: m.limit, start: now.Truncate(time.Minute), tokens: m.tokens}
}

func (m *model) change(to int32) {
	m.changed = m.changed || to != m.limit
	m.bounced = m.bounced || m.raised && to < m.limit
	m.raised = m.raised || to > m.limit
	m.limit, m.highest = to, max(m.highest, to)
}

// giveBack returns any token that is still out, of this window or one before.
func (m *model) giveBack(replicas []*replica, pick int) {
	if len(m.tokens) == 0 {
		return
	}
	pick %= len(m.tokens)
	h := m.tokens[pick]
	m.tokens = append(m.tokens[:pick], m.tokens[pick+1:]...)
	replicas[h.replica].Return(h.token)
	if h.token.window.start == m.start.UnixNano() {
		m.allowed--
		m.returned++
	}
}

func (m *model) call(rt *rapid.T, i int, r *replica, subject string, calls int) {
	limit := Limit{Requests: m.limit, Window: time.Minute}
	for range calls {
		d, token, err := r.Take(rt.Context(), subject, limit)
		require.NoError(rt, err)
		if d.Allowed {
			m.allowed++
			m.tokens = append(m.tokens, held{replica: i, token: token})
			require.LessOrEqual(rt, m.allowed, int64(m.highest))
			if !m.bounced {
				require.LessOrEqual(rt, m.allowed, int64(m.limit))
			}
		} else if !m.changed { // a change of the limit drops tokens, and other limits have other chunks
			require.GreaterOrEqual(rt, m.allowed+2*limit.chunk()+m.returned, int64(m.limit))
		}
	}
}
