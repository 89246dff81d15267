package httpapi

import (
	"context"

	"github.com/keymeter/keymeter/internal/idempotency"
	"github.com/keymeter/keymeter/internal/postgres"
)

// takingRights runs a change that takes rights away, and returns once no server answers by what was true before. All
// such changes go through here or through doTakingRights.
func (s *server) takingRights(ctx context.Context, change func(tx postgres.Tx) (invalidation int64, err error)) error {
	var invalidation int64
	err := postgres.InTx(ctx, s.Pool, func(tx postgres.Tx) (err error) {
		invalidation, err = change(tx)
		return err
	})
	if err != nil {
		return err
	}
	return s.Await(ctx, invalidation)
}

// doTakingRights is takingRights for a request with an Idempotency-Key.
func doTakingRights[T any](
	ctx context.Context, s *server, once idempotency.Request,
	change func(tx postgres.Tx) (answer T, invalidation int64, err error),
) (T, error) {
	var invalidation int64
	answer, err := idempotency.DoTx(ctx, s.Idempotency, once, func(tx postgres.Tx) (answer T, err error) {
		answer, invalidation, err = change(tx)
		return answer, err
	})
	if err != nil {
		return answer, err
	}
	// The first attempt of a request that is repeated may have died before it waited: 0 waits for all there were.
	return answer, s.Await(ctx, invalidation)
}
