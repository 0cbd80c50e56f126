#!/bin/sh
# The Python side of the image, in the build stage; see Containerfile.
#   python.sh packages LOCK ARCHITECTURE ROOT OUT   what gearshift needs, by hash
#   python.sh gearshift OUT REVISION                gearshift itself, from the folder it is called in
set -eu

export PIP_ROOT_USER_ACTION=ignore
SITE=usr/local/lib/python3.13/dist-packages

# A read-only file system cannot keep bytecode, so it is made here; it names no times, and is not
# compared with its source when it is loaded.
compiled() { # FOLDER, which is the root of the image
	python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash -s "$1" -p / "$1"
}

packages() { # LOCK ARCHITECTURE ROOT OUT
	case $2 in
	amd64) machine=x86_64 ;;
	arm64) machine=aarch64 ;;
	*) echo "no wheels for the architecture $2: amd64 or arm64" >&2 && exit 1 ;;
	esac
	platforms=
	for version in 2_28 2_27 2_26 2_24 2_17; do
		platforms="$platforms --platform manylinux_${version}_$machine"
	done
	# shellcheck disable=SC2086
	pip install --quiet --no-cache-dir --no-compile --no-deps --require-hashes \
		--only-binary=:all: --implementation cp --python-version 3.13 $platforms \
		--platform "manylinux2014_$machine" --target "$4/$SITE" -r "$1"
	# The tests of numpy, and what onnxruntime brings for making models, are not served.
	find "$4/$SITE" -depth -type d -name tests -exec rm -r {} +
	rm -rf "$4/$SITE/bin" "$4/$SITE/onnxruntime/transformers" "$4/$SITE/onnxruntime/tools" \
		"$4/$SITE/onnxruntime/quantization"
	compiled "$3"
	compiled "$4"
}

gearshift() { # OUT REVISION
	pip install --quiet --no-cache-dir --require-hashes --target hatch -r build.lock
	PYTHONPATH=hatch pip wheel --quiet --no-cache-dir --no-deps --no-build-isolation --wheel-dir wheel .
	pip install --quiet --no-cache-dir --no-compile --no-deps --target "$1/$SITE" wheel/*.whl
	rm -r "$1/$SITE/bin"
	compiled "$1"
	mkdir -p "$1/usr/local/bin"
	cat >"$1/usr/local/bin/gearshift" <<-'END'
		#!/usr/bin/python3.13
		from gearshift.cli import main

		main()
	END
	chmod 755 "$1/usr/local/bin/gearshift"
	mkdir -p "$1/usr/local/share/gearshift"
	echo "$2" >"$1/usr/local/share/gearshift/revision"
}

"$@"
