# make lab       open the course in JupyterLab        make test      run every test and notebook
# make notebooks execute and store all notebooks      make train     train the Curtain agent
# make pretrained  train such agents as are shipped   make lint      ruff
# make imgs      draw the diagrams of imgs/               make shake     notebooks under other seeds,
# make site      the course as a web site, site/_build                   processors and threads
# Works from any directory: make -C path/to/here lab

VENV ?= .venv
PYTHON ?= python3
NOTEBOOKS := $(sort $(wildcard notebooks/*.ipynb))
ifeq ($(OS),Windows_NT)
  BIN := $(VENV)/Scripts
else
  BIN := $(VENV)/bin
endif
READY := $(VENV)/.ready

.PHONY: lab test shake notebooks site train pretrained imgs lint setup

setup: $(READY)

$(READY): requirements.txt pyproject.toml
	test -d "$(VENV)" || "$(PYTHON)" -m venv "$(VENV)"
	"$(BIN)/python" -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch "$(READY)"

lab: $(READY)
	"$(BIN)/python" -m jupyterlab --ServerApp.ip=127.0.0.1 --ServerApp.root_dir=. \
	  --LabApp.app_settings_dir=lab --LabApp.extra_labextensions_path=lab/extensions \
	  --ServerApp.jpserver_extensions=lab=True \
	  --LabApp.default_url=/lab/tree/notebooks/00_why_dream.ipynb $(LAB_ARGS)

test: $(READY)
	"$(BIN)/python" -m pytest -n 2 --dist loadfile
	WMLIB_STRICT=1 WMLIB_THREADS=1 WMLIB_PROGRESS= "$(BIN)/python" -m pytest --nbval --nbval-current-env \
	  --nbval-cell-timeout 600 --nbval-sanitize-with tests/nbval_sanitize.cfg -n 2 --dist loadfile notebooks

shake: $(READY)
	"$(BIN)/python" tests/shake_notebooks.py $(SHAKE_ARGS)

notebooks: $(READY)
	"$(BIN)/python" tests/store_notebooks.py $(NOTEBOOKS)

site: $(READY)
	"$(BIN)/python" site/build.py

train: $(READY)
	"$(BIN)/python" -m wmlib train wmlib/Curtain-v0 --preset curtain

pretrained: $(READY)
	"$(BIN)/python" -m wmlib.experiments.pretrained

imgs: $(READY)
	"$(BIN)/python" -m wmlib.figures imgs

lint: $(READY)
	"$(BIN)/python" -m ruff check . && "$(BIN)/python" -m ruff format --check . \
	  && PATH="$(abspath $(BIN)):$$PATH" "$(BIN)/python" -m pyright
