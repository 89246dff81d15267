package httpapi_test

import (
	"testing"
	"time"
)

// kept are lives that went wrong once, found by TestLives and made as short as they can be.
var kept = map[string][]step{
	// Whether what was over entered the ledger depended on how often the subscription was read.
	"a limit of one's own while something is over": {
		{Pass: passing{By: time.Minute}, Acts: []act{{Do: subscribes, N: 1}}},
		{Pass: passing{ToRenewal: true, By: 20 * time.Minute}, Acts: []act{{Do: resumed}}},
		{Pass: passing{By: 61 * time.Minute}, Acts: []act{{Early: 1_100_001, Late: 2500, Do: subscribesMore, N: 5}}},
		{Pass: passing{By: 5 * time.Hour}, Acts: []act{{Do: limits}}},
		{Pass: passing{By: 61 * time.Minute}, Acts: []act{{Do: resumed}}},
	},
	// Stripe had forgotten the purchase's events by the time that somebody asked.
	"a purchase while nobody listens for seventy days": {
		{Pass: passing{By: time.Minute}, Deaf: true, Acts: []act{{Do: topsUp}}},
		{Pass: passing{By: 70 * day}, Acts: []act{{Early: 37, Late: 2500, Do: nothing}}},
	},
}

func TestKeptLives(t *testing.T) {
	t.Parallel()
	l := newLives(t)
	for name, steps := range kept {
		for seed := range uint64(10) { // other webhooks are lost with each
			t.Run(name, func(t *testing.T) { l.live(t, batch{Lives: 1, Seed: seed, Steps: steps}) })
		}
	}
}
