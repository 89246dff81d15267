package main

// Rows that are also told as a multiple of Unkey's.
const (
	verifyRow = "verify, in memory, c=64"
	spendRow  = "verify + durable spend, 10,000 accounts, c=64"
)

// peer is what a peer reached of the bare Echo handler on the same machine.
type peer struct {
	ratio, target float64
	what          string
}

// unkey is Unkey's Go API as measured on 2026-11-24 on a machine like CI's (2 cores shared with the load and the databases,
// Postgres 15, 5 interleaved rounds, medians, c=64) beside the bare Echo handler of this benchmark: verifyKey of 1,000 warm
// keys at 14,100/s, and with credits (a counter in Redis that is written to the database later) at 6,900/s. Ratios to the
// same handler compare across runs and machines; rates do not.
func unkey(row string) (peer, bool) {
	switch row {
	case verifyRow:
		return peer{ratio: 0.235, target: 3.5, what: "verifyKey"}, true
	case spendRow:
		return peer{ratio: 0.105, target: 3, what: "verifyKey with credits, which is not durable"}, true
	}
	return peer{}, false
}

// besideUnkey adds a row that tells the ratio of another as a multiple of Unkey's, where there is one.
func (b *bench) besideUnkey(row string, ratio float64) {
	if p, ok := unkey(row); ok {
		b.row("| multiple of Unkey's %s | %.2f | %.3f | %.1f | >= %.1f x |", p.what, ratio, p.ratio, ratio/p.ratio, p.target)
	}
}
