package httpapi

import (
	"context"

	"github.com/keymeter/keymeter/gen/api"
)

func (s *server) GetHealth(context.Context, api.GetHealthRequestObject) (api.GetHealthResponseObject, error) {
	return api.GetHealth200JSONResponse{HealthyJSONResponse: healthy()}, nil
}

func (s *server) GetReadiness(ctx context.Context, _ api.GetReadinessRequestObject) (api.GetReadinessResponseObject, error) {
	if err := s.Ready(ctx); err != nil {
		return nil, errNotNow.Because(err)
	}
	return api.GetReadiness200JSONResponse{HealthyJSONResponse: healthy()}, nil
}

func healthy() api.HealthyJSONResponse { return api.HealthyJSONResponse{Status: api.HealthStatusOk} }
