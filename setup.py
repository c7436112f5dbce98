from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["possam*"]), "possam.configs"], package_dir={"possam.configs": "configs"})
