"""Serve the champion over HTTP on Ray Serve. The path of one request, with the module of each step:

    client ── POST /v1/screen ──▶ Serve's proxy
        http_protocol        limits connections and headers
        proxy_middleware     checks key and origin (access, api_keys), reads the body (upload),
                             counts (metrics) and logs (request_log)
        request_batcher      sends requests that wait at the same time as one call
        request_forwarder    sends all others alone, and again after a crash
    ──▶ replica (deployment)
        batch_protocol       splits the call into its requests
        app                  API key, security headers, routes, files of the body (upload)
        service              limits, threads, version that answers (champion_watcher)
        screener             decoding, ONNX Runtime, calibration, decision
                             ├─▶ dicom_decoder ──▶ a process that decodes DICOM (dicom_process)
                             └─▶ explainer_client ──▶ Explainer: heatmaps with Keras (heatmap)
    ──▶ answer: schema, filled by answers; or problem details: problems

The page at / and /docs are in pages; client asks a server, or a bundle without one, from Python.
"""
